"""From which step on a fault can be seen on the loss curve: where it has left what healthy runs of the same seeds show.

An oracle, which knows the healthy runs: no doctor has those. The curve of a run is its loss in each step of the
optimizer, smoothed by a median of the last fifteen. The band is what healthy runs show within ten steps of the same
step, widened by their noise. A fault can be seen from the first of ten steps in a row that are outside of the band.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMOOTHED, AROUND, IN_A_ROW = 15, 10, 10
Floats = NDArray[np.float64]


def smoothed(losses: Sequence[float]) -> Floats:
    """The median of the last fifteen at each step; what is not finite is above all."""
    values = np.nan_to_num(np.asarray(losses, dtype=float), nan=np.inf, posinf=np.inf)
    return np.array([np.median(values[max(0, t - SMOOTHED + 1) : t + 1]) for t in range(len(values))])


def band(healthy: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Lowest and highest that is healthy, at each step."""
    curves = [smoothed(losses) for losses in healthy]
    length = min(map(len, curves))
    noise = max(float(np.median(np.abs(np.diff(losses)))) for losses in healthy)
    low, high = np.empty(length), np.empty(length)
    for t in range(length):
        near = [curve[max(0, t - AROUND) : t + AROUND + 1] for curve in curves]
        low[t] = min(float(part.min()) for part in near) - noise
        high[t] = max(float(part.max()) for part in near) + noise
    return low, high


def seen_from(losses: Sequence[float], healthy: Sequence[Sequence[float]]) -> int | None:
    """The step from which on the fault can be seen on the curve; None where it never can."""
    if not healthy or min(map(len, healthy)) < 2 * IN_A_ROW or len(losses) < IN_A_ROW:
        return None
    low, high = band(healthy)
    curve = smoothed(losses)[: len(low)]
    outside = (curve < low[: len(curve)]) | (curve > high[: len(curve)])
    row = 0
    for t, is_outside in enumerate(outside):
        row = row + 1 if is_outside else 0
        if row == IN_A_ROW:
            return t - IN_A_ROW + 1
    return None
