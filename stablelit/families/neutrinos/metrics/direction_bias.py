"""Whether predictions lean to one side, or have become one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.families.neutrinos.angles import unit_vector
from stablelit.families.neutrinos.metrics.histograms import check_shapes
from stablelit.nn.summed_metric import SummedMetric


class DirectionBias(SummedMetric):
    """Mean predicted against mean true direction.

    ``z_bias`` is the mean z of the predictions less that of the truths: above 0 they look up. ``resultant_length`` is
    the length of the mean predicted unit vector: 1 if all are one direction, the collapse in which a mean angular error
    of 88 degrees is "always up", and near 0 if they are isotropic, as truths are; theirs is ``resultant_length_true``.
    ``events`` is how many there are.
    """

    predicted: Tensor
    true: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("predicted", "true"):
            self.add_sum(name, 3)
        self.add_count("count")

    def update(self, f: Tensor, t: Tensor) -> None:
        """Adds predictions ``(B, 3)`` of any length with their truths ``(B, 3)``, unit vectors.

        Raises:
            DataError: other shapes.
        """
        check_shapes(type(self).__name__, f, t)
        n = unit_vector(f.detach().double())
        # one that is infinite has finite parts; it spoils them all
        self.predicted += torch.where(f.isfinite().all(dim=-1, keepdim=True), n, math.nan).sum(dim=0)
        self.true += t.detach().double().sum(dim=0)
        self.count += len(f)

    def compute(self) -> dict[str, Tensor]:
        """The numbers of the class, float64; NaN without events, and where a prediction was not finite."""
        predicted, true = self.predicted / self.count, self.true / self.count
        return {
            "z_bias": predicted[2] - true[2],
            "resultant_length": predicted.norm(),
            "resultant_length_true": true.norm(),
            "events": self.count.double(),
        }
