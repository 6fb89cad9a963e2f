"""Whether a short, noisy series rises: a rank test for the direction, and its noise for the size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from stablelit.functional.medians import SIGMA_PER_MAD, Floats, median_of


def mann_kendall_z(values: Sequence[float]) -> float:
    r"""The standardised Mann-Kendall statistic: above 0 where a series rises, N(0, 1) where it is exchangeable noise.

    .. math::
        S = \sum_{i<k} \mathrm{sign}(x_k - x_i), \quad z = (S - \mathrm{sign} S) / \sqrt{n (n-1) (2n+5) / 18}

    Source: Mann 1945, Econometrica 13, 245; Kendall 1975, Rank Correlation Methods.
    """
    n = len(values)
    s = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    return (s - (s > 0) + (s < 0)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18) if n > 1 else 0.0


def noise_of(values: Sequence[float] | Floats, lag: int = 1) -> float:
    r"""The standard deviation of a series about its trend: :math:`1.4826 / \sqrt 2` of its differences' MAD.

    Of noise that is correlated from one value to the next the differences show too little; those over a longer `lag`
    show it.
    """
    series = np.asarray(values, dtype=np.float64)
    steps = series[lag:] - series[:-lag]
    return SIGMA_PER_MAD / math.sqrt(2) * median_of(np.abs(steps - median_of(steps))) if len(steps) else 0.0


def change_of(values: Sequence[float]) -> float:
    """The median of the last third less that of the first."""
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) - statistics.median(values[:third])


def rises(values: Sequence[float], noise: float | None = None) -> bool:
    """Whether a series rises by more than its noise: z above 3, and a change of more than three times the noise.

    Args:
        values: at least two.
        noise: its standard deviation; None is that of `values`.
    """
    size = noise_of(values) if noise is None else noise
    return change_of(values) > 3.0 * size and mann_kendall_z(values) > 3.0


def falls(values: Sequence[float]) -> bool:
    """The mirror image of `rises`."""
    return rises([-value for value in values])
