"""What several rules ask of a learning rate as it was: does it come back, is it gone, when is its warm-up over.

A rate is no measurement: it has no noise. What was computed for as many points of a curve is kept.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.functional.curve_tests import Floats

_GONE = 0.01
_LOOKED_BACK = 4096


def returns(rates: Curve) -> tuple[int, float] | None:
    """How often the rate has come back from below a fifth of its peak to above four fifths, and the mean period.

    None where that was fewer than twice: a warm-up is no return.
    """
    return _returns(rates, len(rates))


@lru_cache(maxsize=8)
def _returns(rates: Curve, length: int) -> tuple[int, float] | None:
    peak = float(rates.values[:length].max()) if length else 0.0
    if length and float(rates.values[:length].min()) >= 0.2 * peak:
        return None  # most
    # of a long run only the end: what comes back often has done so there too
    values, steps = rates.values[:length][-_LOOKED_BACK:], rates.steps[:length][-_LOOKED_BACK:]
    if length < 8 or not 0.0 < peak < math.inf or not np.isfinite(values).all():
        return None
    level = np.where(values > 0.8 * peak, 1, np.where(values < 0.2 * peak, -1, 0))
    told = np.flatnonzero(level)
    if not len(told):
        return None
    ups = told[1:][(level[told[1:]] == 1) & (level[told[:-1]] == -1)]
    if level[told[0]] == 1:
        ups = np.concatenate([told[:1], ups])
    if len(ups) < 3:
        return None
    return len(ups) - 1, float(np.diff(steps[ups]).mean())


def vanishes(rates: Curve) -> float | None:
    """The step since which the rate has been below 1 % of its peak; None where it is not."""
    return _vanishes(rates, len(rates))


@lru_cache(maxsize=8)
def _vanishes(rates: Curve, length: int) -> float | None:
    values = rates.values[:length]
    if length < 8 or not np.isfinite(values).all() or values.max() <= 0.0:
        return None
    present = np.flatnonzero(values >= _GONE * values.max())
    return None if present[-1] == length - 1 else float(rates.steps[present[-1] + 1])


def warmup_end(evidence: Evidence) -> float | None:
    """The step at which a rate that rises in a straight line from near 0 is what the optimizer was asked for."""
    rates = evidence.curve("lr")
    asked = evidence.settings.learning_rate
    if len(rates) < 8 or not asked or rates.steps[-1] < 20:
        return None
    steps, values = _changes(rates, len(rates))
    if len(steps) < 3 or values[-1] >= 0.9 * asked or values[0] > 0.5 * asked or bool((np.diff(values) <= 0).any()):
        return None
    slope = (values[-1] - values[0]) / (steps[-1] - steps[0])
    line = values[0] + slope * (steps - steps[0])
    if float(np.abs(values - line).max()) > 0.02 * float(values[-1] - values[0]) + 1e-9 * asked:
        return None
    return float(steps[-1] + (asked - values[-1]) / slope)


@lru_cache(maxsize=8)
def _changes(rates: Curve, length: int) -> tuple[Floats, Floats]:
    """Where the rate has changed, and to what; the first point too."""
    values = rates.values[:length]
    new = np.concatenate([[True], values[1:] != values[:-1]])
    return rates.steps[:length][new], values[new]
