"""The score of the field: the mean angle between prediction and truth."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablelit.families.neutrinos.metrics.histograms import angular_errors
from stablelit.nn.summed_metric import SummedMetric


class MeanAngularError(SummedMetric):
    """Mean of ``2 atan2(|n - t|, |n + t|)`` over events, in radians, summed in float64.

    pi / 2 is what a random guess scores, and a prediction of zeros (a line fit where there is no line) counts as one.

    Example:
        >>> import torch
        >>> error = MeanAngularError()
        >>> error.update(torch.tensor([[0.0, 0.0, 7.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
        >>> round(float(error.compute()), 4)
        1.5708
    """

    higher_is_better = False

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("total")
        self.add_count("count")

    def update(self, f: Tensor, t: Tensor) -> None:
        """Adds predictions ``(B, 3)`` of any length with their truths ``(B, 3)``, unit vectors.

        Raises:
            DataError: other shapes.
        """
        error = angular_errors(type(self).__name__, f, t)
        self.total += error.sum()
        self.count += len(error)

    def compute(self) -> Tensor:
        """The mean, ``()`` float64; NaN without events, and where a prediction was not finite."""
        return self.total / self.count
