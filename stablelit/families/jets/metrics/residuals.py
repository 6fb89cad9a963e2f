"""What a jet autoencoder's reconstruction does to a jet as a whole, the figures that papers on them compare."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError
from stablelit.families.jets.features import wrap_angle
from stablelit.families.jets.metrics.kinematics import jet_momentum

QUANTITIES = ("mass", "pt", "eta", "phi")
MASSLESS = 1e-6
"""A jet lighter than this share of its pT (one particle) has no relative residual of its mass."""


class JetResiduals(Metric):
    """Median and interquartile range of the residuals of reconstructed jets.

    Of mass and pT ``(reconstructed - true) / true``; of eta and phi (rad) the difference, since they are relative to
    the jet's axis and true ones are about zero. `compute` returns ``{quantity}_residual_median``,
    ``{quantity}_residual_iqr``, and ``{quantity}_residual_iqr_baseline``: the range where every jet is reconstructed as
    another true jet, which an autoencoder that learns nothing of its input attains. Jets without mass are left out
    where the mass is divided by, and counted in ``massless_jets``.

    Source: Kansal 2024 (dissertation), chapter 6, for the figures that are compared.
    """

    full_state_update = False
    is_differentiable = False

    true: list[Tensor]
    reconstructed: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("true", default=[], dist_reduce_fx="cat")
        self.add_state("reconstructed", default=[], dist_reduce_fx="cat")

    def update(self, particles: Tensor, mask: Tensor, reconstructed: Tensor, reconstructed_mask: Tensor) -> None:
        """Adds jets ``(B, N, 3)`` and what they were reconstructed as, ``(B, M, 3)``, in the same order.

        Raises:
            DataError: different numbers of jets.
        """
        if len(particles) != len(reconstructed):
            raise DataError(
                f"JetResiduals: {len(particles)} jets and {len(reconstructed)} reconstructions. Allowed: one each."
            )
        for state, jets in ((self.true, (particles, mask)), (self.reconstructed, (reconstructed, reconstructed_mask))):
            momentum = jet_momentum(*jets)
            state.append(torch.stack([getattr(momentum, name) for name in QUANTITIES], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """The figures.

        Raises:
            DataError: no jets, or NaN or infinity in them.
        """
        true, found = (
            part if isinstance(part, Tensor) else torch.cat(part) if part else torch.zeros(0, 4)
            for part in (self.true, self.reconstructed)
        )
        if not len(true):
            raise DataError("JetResiduals: no jets. Allowed: at least one. Call update before compute.")
        for name, momenta in (("true", true), ("reconstructed", found)):
            if n_bad := int((~momenta.isfinite()).any(dim=1).sum()):
                raise DataError(f"JetResiduals: {n_bad} of {len(momenta)} {name} jets have NaN or infinity in them.")
        scores: dict[str, Tensor] = {"massless_jets": (true[:, 0] < MASSLESS).sum()}
        # of the next jet: any other would do
        other = residuals(true, true.roll(1, 0))
        for name, mine, baseline in zip(QUANTITIES, residuals(true, found).T, other.T, strict=True):
            low, median, high = torch.nanquantile(mine, mine.new_tensor([0.25, 0.5, 0.75]))
            scores[f"{name}_residual_median"], scores[f"{name}_residual_iqr"] = median, high - low
            low, high = torch.nanquantile(baseline, mine.new_tensor([0.25, 0.75]))
            scores[f"{name}_residual_iqr_baseline"] = high - low
        return scores


def residuals(true: Tensor, reconstructed: Tensor) -> Tensor:
    """Residuals ``(n, 4)`` of mass, pt, eta, phi from those of the jets, ``(n, 4)`` each; NaN for a mass over none."""
    mass, pt = (reconstructed[:, :2] - true[:, :2]).div(true[:, :2]).unbind(1)
    mass = torch.where(true[:, 0] < MASSLESS, torch.nan, mass)
    eta, phi = (reconstructed[:, 2:] - true[:, 2:]).unbind(1)
    return torch.stack([mass, pt, eta, wrap_angle(phi)], dim=1)
