"""How the angular error depends on how much was seen of an event."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.neutrinos.metrics.histograms import add_to_histogram, angular_errors, quantiles
from stablelit.nn.summed_metric import SummedMetric

N_CLASSES = 18
N_BINS = 4096


class AngularErrorByPulseCount(SummedMetric):
    """Mean and median angular error of events of 1, 2-3, 4-7, 8-15, ... pulses; the last class is 131,072 and more.

    `compute` returns ``least_pulses``, ``count``, ``mean_rad`` and ``median_rad``, ``(18,)`` each. Medians are known to
    7.7e-4 rad, the width of the bins that errors are counted in.
    """

    higher_is_better = False

    counts: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_count("counts", N_CLASSES * N_BINS)
        self.add_sum("total", N_CLASSES)

    def update(self, f: Tensor, t: Tensor, pulse_count: Tensor) -> None:
        """Adds predictions ``(B, 3)``, their truths ``(B, 3)``, unit vectors, and pulses ``(B,)``, 1 or more.

        Raises:
            DataError: other shapes.
        """
        error = angular_errors(type(self).__name__, f, t)
        if pulse_count.shape != error.shape:
            raise DataError(
                f"{type(self).__name__}: pulse_count {tuple(pulse_count.shape)} for {len(error)} events. "
                f"Allowed: ({len(error)},)."
            )
        edges = 2 ** torch.arange(1, N_CLASSES, device=error.device)
        which = torch.bucketize(pulse_count.to(edges.dtype), edges, right=True)
        self.total.index_add_(0, which, error)
        # each class has its stretch of one histogram; an error of pi, or NaN, is in the last bin of its own
        inside = (error * (N_BINS / math.pi)).nan_to_num(nan=N_BINS).clamp(0, N_BINS - 1)
        add_to_histogram(self.counts, which * N_BINS + inside.floor(), 0.0, float(len(self.counts)))

    def compute(self) -> dict[str, Tensor]:
        """A value for each class; NaN where it has no events, or a prediction was not finite."""
        counts = self.counts.view(N_CLASSES, N_BINS)
        count = counts.sum(dim=-1)
        mean = self.total / count
        median = quantiles(counts, (0.5,), 0.0, math.pi)[:, 0]
        return {
            "least_pulses": 2 ** torch.arange(N_CLASSES, device=count.device),
            "count": count,
            "mean_rad": mean,
            "median_rad": torch.where(mean.isnan(), math.nan, median),
        }
