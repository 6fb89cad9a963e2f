"""What a validation or a test of a jet model collects: real and generated jets, KL of each dimension, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.families.jets.metrics import JetMassW1, jet_mass, wasserstein_1d

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class JetEvaluation(nn.Module):
    """One evaluation after another; `figures` shows the last that was finished."""

    def __init__(self) -> None:
        super().__init__()
        self.mass_w1 = JetMassW1()
        self._kl_sums: list[tuple[Tensor, int]] = []
        self._last: dict[str, Any] = {}

    def begin(self) -> None:
        """Forgets what was collected, not the last result."""
        self.mass_w1.reset()
        self._kl_sums = []

    def add(self, particles: Tensor, mask: Tensor, kl_per_dim: Tensor) -> None:
        """Adds real jets and their KL ``(B, d)``."""
        self.mass_w1.update(particles, mask, real=True)
        self._kl_sums.append((kl_per_dim.sum(dim=0), len(kl_per_dim)))

    @property
    def n_real(self) -> int:
        """Real jets since `begin`, on this process."""
        return len(self.mass_w1.masses()[0])

    def finish(self, drawn: dict[str, Tensor], raw: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Compares with generated jets, and returns the scores.

        Args:
            drawn: samples.
            raw: samples as the decoder drew them, where `drawn` are calibrated to have the right masses.
        """
        self.mass_w1.update(drawn["particles"], drawn["mask"], real=False)
        real, generated = (mass.cpu() for mass in self.mass_w1.masses())
        scores: dict[str, Tensor] = self.mass_w1.compute()
        raw_mass = None if raw is None else jet_mass(raw["particles"], raw["mask"]).cpu()
        if raw_mass is not None:
            scores["mass_w1_raw"] = wasserstein_1d(raw_mass, real)
        n_jets = sum(count for _, count in self._kl_sums)
        self._last = {
            "real": real,
            "generated": generated,
            "raw": raw_mass,
            "kl_per_dim": torch.stack([total for total, _ in self._kl_sums]).sum(dim=0).cpu() / n_jets,
            **{name: float(value) for name, value in scores.items()},
        }
        self.begin()
        return {name: value.float() for name, value in scores.items()}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last evaluation; none before the first."""
        from stablelit.families.jets.figures import kl_per_dimension, mass_spectrum

        last = self._last
        if not last:
            return {}
        masses = last["real"], last["generated"], last["mass_w1"], last["mass_w1_floor"], last["raw"]
        return {
            "mass_spectrum": mass_spectrum(*masses),
            "kl_per_dimension": kl_per_dimension(last["kl_per_dim"]),
        }
