"""What a validation or a test of a jet model collects: real and generated jets, KL of each dimension, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stablelit.errors import DataError
from stablelit.families.jets.metrics import JetMetrics, jet_mass, wasserstein_1d
from stablelit.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class JetEvaluation(nn.Module):
    """One evaluation after another; `figures` shows the last that was finished.

    Args:
        test_metrics: groups of `JetMetrics` that a test measures beside "w1", with standard errors; a validation
            measures "w1" alone, without.
    """

    def __init__(self, test_metrics: Sequence[str] = ()) -> None:
        super().__init__()
        self.jet_metrics = nn.ModuleDict(
            {"val": JetMetrics(["w1"], n_bootstrap=0), "test": JetMetrics(["w1", *test_metrics])}
        )
        self.findings: list[Finding] = []
        self._stage = "val"
        self._kl_sums: list[tuple[Tensor, int]] = []
        self._last: dict[str, Any] = {}

    def begin(self, stage: str) -> None:
        """Forgets what was collected, not the last result.

        Args:
            stage: "val" or "test".
        """
        self._stage = stage
        self._metric.reset()
        self._kl_sums = []

    def add(self, particles: Tensor, mask: Tensor, kl_per_dim: Tensor) -> None:
        """Adds real jets and their KL ``(B, d)``."""
        self._metric.update(particles, mask, real=True)
        self._kl_sums.append((kl_per_dim.sum(dim=0), len(kl_per_dim)))

    @property
    def n_real(self) -> int:
        """Real jets since `begin`, on this process."""
        return sum(count for _, count in self._kl_sums)

    def finish(self, drawn: dict[str, Tensor], raw: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Compares with generated jets, and returns the scores; `findings` has what is to be known about them.

        Args:
            drawn: samples.
            raw: samples as the decoder drew them, where `drawn` are calibrated to have the right masses.
        """
        metric = self._metric
        metric.update(drawn["particles"], drawn["mask"], real=False)
        masses = {"real": jet_mass(*metric.jets(real=True)), "generated": jet_mass(drawn["particles"], drawn["mask"])}
        try:
            scores = metric.compute()
            if raw is not None:
                masses["raw"] = jet_mass(raw["particles"], raw["mask"])
                scores["mass_w1_raw"] = wasserstein_1d(masses["raw"], masses["real"])
        except DataError as error:
            # a model that has lost its way draws NaN; whether that ends the run is not for a metric to say
            remedy = "model.learning_rate, smaller"
            self.findings = [Finding("jets-cannot-be-scored", "critical", str(error), remedy=remedy)]
            self._last = {}
            self.begin(self._stage)
            return {"mass_w1": drawn["particles"].new_tensor(float("nan"))}
        self.findings = [f for f in (metric.scores.findings if metric.scores else ()) if f.severity != "info"]
        self._last = {
            "raw": None,
            **{name: mass.cpu() for name, mass in masses.items()},
            "kl_per_dim": torch.stack([total for total, _ in self._kl_sums]).sum(dim=0).cpu() / self.n_real,
            # one jet has no floor
            "mass_w1_floor": float("nan"),
            **{name: float(value) for name, value in scores.items()},
        }
        self.begin(self._stage)
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

    @property
    def _metric(self) -> JetMetrics:
        metric = self.jet_metrics[self._stage]
        assert isinstance(metric, JetMetrics)
        return metric
