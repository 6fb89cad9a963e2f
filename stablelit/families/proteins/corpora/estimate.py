"""A number with its error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A quantity and its standard error, which is 0 where the value is exact.

    Args:
        value: in the unit of the quantity.
        standard_error: of the Monte Carlo mean.
    """

    value: float
    standard_error: float = 0.0

    @classmethod
    def of_draws(cls, draws: NDArray[np.float64]) -> Estimate:
        """The mean of independent draws ``(n,)``."""
        error = float(draws.std(ddof=1) / np.sqrt(len(draws))) if len(draws) > 1 else float("inf")
        return cls(float(draws.mean()), error)
