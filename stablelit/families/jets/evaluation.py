"""What a validation or a test of a jet model collects: real and generated jets, KL of each dimension, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.families.jets.metrics import JetMetrics, jet_mass, wasserstein_1d
from stablelit.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class JetEvaluation(nn.Module):
    """One evaluation after another, of stage "val" or "test"; `figures` shows the last that was finished.

    Args:
        test_metrics: groups of `JetMetrics` that a test computes beside "w1", which both do.
    """

    def __init__(self, test_metrics: Sequence[str] = ()) -> None:
        super().__init__()
        self.jet_metrics = nn.ModuleDict(
            {"val": JetMetrics(["w1"], n_bootstrap=0), "test": JetMetrics(["w1", *test_metrics])}
        )
        self.findings: list[Finding] = []
        self._kl_sums: list[tuple[Tensor, int]] = []
        self._last: dict[str, Any] = {}

    def begin(self, stage: str) -> None:
        """Forgets what was collected, not the last result."""
        self._metric(stage).reset()
        self._kl_sums = []

    def add(self, stage: str, particles: Tensor, mask: Tensor, kl_per_dim: Tensor) -> None:
        """Adds real jets and their KL ``(B, d)``."""
        self._metric(stage).update(particles, mask, real=True)
        self._kl_sums.append((kl_per_dim.sum(dim=0), len(kl_per_dim)))

    def n_real(self, stage: str) -> int:
        """Real jets since `begin`, on this process."""
        return self._metric(stage).jets(real=True).n_jets

    def finish(self, stage: str, drawn: dict[str, Tensor], raw: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Compares with generated jets, and returns the scores; what they have to say is in `findings`.

        Args:
            stage: "val" or "test".
            drawn: samples.
            raw: samples as the decoder drew them, where `drawn` are calibrated to have the right masses.
        """
        metric = self._metric(stage)
        real = jet_mass(*metric.jets(real=True)).cpu()
        metric.update(drawn["particles"], drawn["mask"], real=False)
        scores: dict[str, Tensor] = metric.compute()
        raw_mass = None if raw is None else jet_mass(raw["particles"], raw["mask"]).cpu()
        if raw_mass is not None:
            scores["mass_w1_raw"] = wasserstein_1d(raw_mass, real)
        n_jets = sum(count for _, count in self._kl_sums)
        self._last = {
            "real": real,
            "generated": jet_mass(drawn["particles"], drawn["mask"]).cpu(),
            "raw": raw_mass,
            "kl_per_dim": torch.stack([total for total, _ in self._kl_sums]).sum(dim=0).cpu() / n_jets,
            "mass_w1": float(scores["mass_w1"]),
            "mass_w1_floor": float(scores.get("mass_w1_floor", float("nan"))),
        }
        found = metric.scores.findings if metric.scores else ()
        self.findings = [finding for finding in found if finding.severity != "info"]
        self.begin(stage)
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

    def _metric(self, stage: str) -> JetMetrics:
        metric = self.jet_metrics[stage]
        assert isinstance(metric, JetMetrics)
        return metric
