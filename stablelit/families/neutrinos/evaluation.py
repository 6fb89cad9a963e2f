"""What a validation or a test of directions collects: scores beside baselines, findings, and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.families.neutrinos.angles import angle_between, unit_vector
from stablelit.families.neutrinos.event_batch import EVENT_LINE_FIT, Batch
from stablelit.families.neutrinos.metrics import DirectionMetrics, direction_findings
from stablelit.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# enough for a picture; all events of a large validation set need not be kept for one
SHOWN = 50_000


class DirectionEvaluation(nn.Module):
    """One evaluation after another; `figures` shows the last that was finished."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = DirectionMetrics()
        self.findings: list[Finding] = []
        self._kept: list[tuple[Tensor, ...]] = []
        self._n_kept = 0
        self._last: list[Tensor] = []

    def begin(self, constant_direction: np.ndarray | Tensor | None = None) -> None:
        """Forgets what was collected, not the last result.

        Args:
            constant_direction: ``(3,)``, the best constant guess of the training events, to compare with.
        """
        self.metrics.reset()
        if constant_direction is not None:
            self.metrics.compare_with_constant(constant_direction)
        self.findings, self._kept, self._n_kept = [], [], 0

    def add(self, batch: Batch, f: Tensor) -> None:
        """Adds the predictions f ``(B, 3)`` of a batch's events."""
        f = f.detach().float()
        target, fit = batch["direction"], batch["events"][:, EVENT_LINE_FIT]
        self.metrics.update(f, target, batch["pulse_count"], fit)
        if self._n_kept < SHOWN:
            self._kept.append((f, target, fit, batch["pulse_count"]))
            self._n_kept += len(f)

    def finish(self) -> dict[str, Tensor]:
        """The scores; `findings` has what is to be known about them.

        The line fit is what costs nothing, and so the baseline of the mean error.
        """
        scores = self.metrics.compute()
        self.findings = direction_findings(scores)
        self._last = [torch.cat(parts).cpu() for parts in zip(*self._kept, strict=True)]
        scores["angular_error_mean_rad_baseline"] = scores.pop("line_fit_error_mean_rad")
        return {name: value.float() for name, value in scores.items() if name != "events"}

    def figures(self) -> dict[str, Figure]:
        """Pictures of the last evaluation; none before the first."""
        from stablelit.families.neutrinos import figures

        if not self._last:
            return {}
        f, target, fit, pulse_count = self._last
        error, of_fit = angle_between(unit_vector(f), target), angle_between(fit, target)
        return {
            "angular_error_by_pulse_count": figures.angular_error_by_pulse_count(error, pulse_count, of_fit),
            "cumulative_angular_error": figures.cumulative_angular_error(error, of_fit),
            "kappa_calibration": figures.kappa_calibration(f, target),
            "zenith": figures.predicted_against_true_zenith(f, target),
        }
