"""Medians and quantiles as numpy's, in a fraction of its time for the few hundred values of a curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGMA_PER_MAD = 1.4826
"""The standard deviation of normal numbers over the median of their distances from the median."""


def median_of(values: Floats) -> float:
    """``numpy.median`` of (n,), in a fifth of its time where n is small; NaN where there is no value, or a NaN."""
    n = len(values)
    half = n // 2
    if n < 2:
        return float(values[0]) if n else math.nan
    # a NaN comes last
    parted = np.partition(values, (half - 1, half, n - 1))
    if parted[-1] != parted[-1]:
        return math.nan
    return float(parted[half]) if n % 2 else float(parted[half - 1] + parted[half]) / 2.0


def medians_of_rows(table: Floats) -> Floats:
    """``numpy.median(table, axis=1)`` of (n, m), in a tenth of its time where n and m are small."""
    ordered, half = np.sort(table, axis=1), table.shape[1] // 2
    # a NaN comes last
    if not ordered.size or np.isnan(ordered[:, -1]).any():
        return np.asarray(np.median(table, axis=1))
    middle = ordered[:, half] if table.shape[1] % 2 else (ordered[:, half - 1] + ordered[:, half]) / 2
    return np.asarray(middle)


def quantile_of(values: Floats, share: float) -> float:
    """``numpy.quantile`` of (n,) without a NaN, in a tenth of its time for a few hundred values."""
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
