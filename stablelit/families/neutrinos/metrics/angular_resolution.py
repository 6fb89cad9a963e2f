"""Within which angle of the truth half, 68 % and 90 % of the predictions are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.families.neutrinos.metrics.histograms import add_to_histogram, angular_errors, quantiles
from stablelit.nn.summed_metric import SummedMetric

N_BINS = 2**16
SHARES = {"angular_error_median_rad": 0.5, "angular_error_68_rad": 0.68, "angular_error_90_rad": 0.9}


class AngularResolution(SummedMetric):
    """Median and containment of the angular error, in radians.

    The mean is governed by events that are not understood at all; these say how good the others are. Errors are counted
    in 65,536 bins of 4.8e-5 rad (0.003 degrees), which is the resolution of the answers, so that a state is 512 KiB for
    any number of events and ranks are summed.

    `compute` returns ``angular_error_median_rad``, ``angular_error_68_rad`` and ``angular_error_90_rad``.
    """

    higher_is_better = False

    counts: Tensor
    not_finite: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_count("counts", N_BINS)
        self.add_count("not_finite")

    def update(self, f: Tensor, t: Tensor) -> None:
        """Adds predictions ``(B, 3)`` of any length with their truths ``(B, 3)``, unit vectors.

        Raises:
            DataError: other shapes.
        """
        error = angular_errors(type(self).__name__, f, t)
        add_to_histogram(self.counts, error, 0.0, math.pi)
        self.not_finite += error.isnan().sum()

    def compute(self) -> dict[str, Tensor]:
        """The three angles, float64; NaN without events, and where a prediction was not finite."""
        found = quantiles(self.counts, tuple(SHARES.values()), 0.0, math.pi)
        found = torch.where(self.not_finite > 0, math.nan, found)
        return dict(zip(SHARES, found, strict=True))
