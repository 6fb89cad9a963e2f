"""What a jet autoencoder's reconstruction does to a jet as a whole, the figures that papers on them compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.jets.features import wrap_angle
from stablelit.families.jets.metrics.kinematics import jet_momentum

QUANTITIES = ("mass", "pt", "eta", "phi", "multiplicity")
MASSLESS = 1e-6
"""A jet lighter than this share of its pT (one particle) has no relative residual of its mass."""


class JetResiduals(Metric):
    """Median and interquartile range of the residuals of reconstructed jets.

    Of mass, pT and number of particles ``(reconstructed - true) / true``; of eta and phi (rad) the difference, since
    they are relative to the jet's axis and true ones are about zero. `compute` returns ``{quantity}_residual_median``,
    ``{quantity}_residual_iqr``, and ``{quantity}_residual_iqr_baseline``: the range where every jet is reconstructed as
    another true jet, which an autoencoder that learns nothing of its input attains. Jets without mass are left out
    where the mass is divided by, and counted in ``massless_jets``.

    Source: Kansal 2024 (dissertation), chapter 6, for the figures that are compared.

    Args:
        quantities: of "mass", "pt", "eta", "phi" and "multiplicity".

    Raises:
        ConfigurationError: an unknown quantity, or none.
    """

    full_state_update = False
    is_differentiable = False

    true: list[Tensor]
    reconstructed: list[Tensor]

    def __init__(self, quantities: Sequence[str] = QUANTITIES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = [quantities] if isinstance(quantities, str) else list(quantities)
        for name in names:
            if name not in QUANTITIES:
                near = did_you_mean(str(name), QUANTITIES)
                raise bad_argument(type(self).__name__, "quantities", name, ", ".join(QUANTITIES), near)
        if not names:
            raise bad_argument(type(self).__name__, "quantities", names, f"at least one of {', '.join(QUANTITIES)}")
        self.quantities = tuple(names)
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
            momentum, count = jet_momentum(*jets), jets[1].sum(dim=1).double()
            state.append(torch.stack([momentum.mass, momentum.pt, momentum.eta, momentum.phi, count], dim=1))

    def per_jet(self) -> tuple[Tensor, Tensor]:
        """Residuals ``(n, k)`` of the quantities in their order, and those where each jet is the next real one.

        Of one jet, which has no other, the second are NaN.

        Raises:
            DataError: no jets, or NaN or infinity in them.
        """
        true, found = (
            part if isinstance(part, Tensor) else torch.cat(part) if part else torch.zeros(0, len(QUANTITIES))
            for part in (self.true, self.reconstructed)
        )
        if not len(true):
            raise DataError("JetResiduals: no jets. Allowed: at least one. Call update before compute.")
        for name, momenta in (("true", true), ("reconstructed", found)):
            if n_bad := int((~momenta.isfinite()).any(dim=1).sum()):
                raise DataError(f"JetResiduals: {n_bad} of {len(momenta)} {name} jets have NaN or infinity in them.")
        places = [QUANTITIES.index(name) for name in self.quantities]
        others = true.roll(1, 0) if len(true) > 1 else torch.full_like(true, torch.nan)
        return residuals(true, found)[:, places], residuals(true, others)[:, places]

    def compute(self) -> dict[str, Tensor]:
        """The figures.

        Raises:
            DataError: as `per_jet`.
        """
        mine, others = self.per_jet()
        scores = {}
        for name, values, other in zip(self.quantities, mine.T, others.T, strict=True):
            low, median, high = torch.nanquantile(values, values.new_tensor([0.25, 0.5, 0.75]))
            scores[f"{name}_residual_median"], scores[f"{name}_residual_iqr"] = median, high - low
            low, high = torch.nanquantile(other, values.new_tensor([0.25, 0.75]))
            scores[f"{name}_residual_iqr_baseline"] = high - low
            if name == "mass":
                scores["massless_jets"] = values.isnan().sum()
        return scores


def residuals(true: Tensor, reconstructed: Tensor) -> Tensor:
    """Residuals ``(n, 5)`` of mass, pt, eta, phi and number of particles from those of the jets, ``(n, 5)`` each.

    NaN for a mass over none; an empty jet has a residual of its number against one particle.
    """
    apart = reconstructed - true
    mass = torch.where(true[:, 0] < MASSLESS, torch.nan, apart[:, 0] / true[:, 0])
    count = apart[:, 4] / true[:, 4].clamp_min(1.0)
    return torch.stack([mass, apart[:, 1] / true[:, 1], apart[:, 2], wrap_angle(apart[:, 3]), count], dim=1)
