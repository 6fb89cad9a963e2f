"""Pacing functions, schedules and clock strings: progress in, value out.

Everything here is a pure function of numbers. A callback asks *when*; this file says *how much*.

A clock string is the one notation for durations: an int or ``"500st"`` (optimizer steps), ``"800ba"`` (batches),
``"20ep"`` (epochs), ``"0.1dur"`` (a share of the planned run).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stablelit.errors import bad_argument, did_you_mean

ClockUnit = Literal["st", "ba", "ep", "dur"]
CLOCK_UNITS: dict[str, str] = {
    "st": "optimizer steps",
    "ba": "batches",
    "ep": "epochs",
    "dur": "share of the planned run",
}
_CLOCK = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(st|ba|ep|dur)\s*$")


@dataclass(frozen=True)
class Duration:
    """A length of training: `amount` in `unit` (see `CLOCK_UNITS`)."""

    amount: float
    unit: ClockUnit

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"


def parse_duration(duration: int | str, name: str = "duration", owner: str = "schedule") -> Duration:
    """Reads a clock string.

    Args:
        duration: an int (optimizer steps) or a string such as ``"500st"``, ``"800ba"``, ``"20ep"``, ``"0.1dur"``.
        name: what the caller calls this argument, for the message.
        owner: who asks, for the message.

    Returns:
        The duration; a plain int counts optimizer steps.

    Raises:
        ConfigurationError: not a clock string, negative, or a share of the run above 1.

    >>> parse_duration("20ep")
    Duration(amount=20.0, unit='ep')
    """
    allowed = "an int (optimizer steps) or '<number><st|ba|ep|dur>', e.g. 500, '500st', '800ba', '20ep', '0.1dur'"
    if isinstance(duration, bool) or not isinstance(duration, int | str):
        raise bad_argument(owner, name, duration, allowed)
    if isinstance(duration, int):
        if duration < 0:
            raise bad_argument(owner, name, duration, "a duration of 0 or more")
        return Duration(float(duration), "st")
    match = _CLOCK.match(duration)
    if match is None:
        raise bad_argument(owner, name, duration, allowed, _unit_in_words(duration))
    amount, unit = float(match[1]), match[2]
    if unit == "dur" and amount > 1:
        raise bad_argument(owner, name, duration, "a share of the run between 0 and 1 ('0.1dur' is a tenth)")
    if unit in ("st", "ba") and amount != int(amount):
        raise bad_argument(owner, name, duration, f"a whole number of {CLOCK_UNITS[unit]}")
    return Duration(amount, unit)  # type: ignore[arg-type]


def _unit_in_words(duration: str) -> str:
    words = {"epoch": "ep", "step": "st", "batch": "ba", "run": "dur", "s": "st", "b": "ba", "e": "ep"}
    match = re.match(r"^\s*([0-9]*\.?[0-9]+)\s*([a-z]+?)(es|s)?\s*$", duration.lower())
    unit = words.get(match[2]) or words.get(match[2] + (match[3] or "")) if match else None
    return f"Did you mean '{match[1]}{unit}'?" if match and unit else ""


# --- pacing: [0, 1] -> [0, 1], f(0) = 0 and f(1) = 1 exactly, monotone ------------------------------------------------


def linear(progress: float) -> float:
    """``t``."""
    return progress


def cosine(progress: float) -> float:
    """``(1 - cos(pi t)) / 2``: flat at both ends."""
    if progress >= 1.0:
        return 1.0
    return 0.5 * (1.0 - math.cos(math.pi * progress))


def sigmoid(progress: float, steepness: float = 10.0) -> float:
    """Logistic ``s(k (t - 1/2))``, rescaled so that it starts at 0 and ends at 1 exactly."""
    if progress <= 0.0:
        return 0.0
    if progress >= 1.0:
        return 1.0
    # s(x) = (1 + tanh(x/2)) / 2, so the rescaled logistic is a ratio of tanh: no overflow, odd about the middle
    return 0.5 * (1.0 + math.tanh(0.5 * steepness * (progress - 0.5)) / math.tanh(0.25 * steepness))


def exponential(progress: float, steepness: float = 5.0) -> float:
    """``(e^{k t} - 1) / (e^k - 1)``: slow, then fast."""
    if progress >= 1.0:
        return 1.0
    return math.expm1(steepness * progress) / math.expm1(steepness)


def root(progress: float, power: float = 2.0) -> float:
    """``t^(1/p)``: fast, then slow; p = 2 is the root-p pacing of Platanios et al. 2019 (arXiv:1903.09848)."""
    return float(progress ** (1.0 / power))


def step(progress: float, n_steps: int = 4) -> float:
    """``floor(n t) / n``: a staircase of `n_steps` equal rises, the last one at t = 1."""
    # the guard repairs 0.3 * 10 = 2.9999999999999996: a rise happens at its own progress, not one tick later
    return min(1.0, math.floor(n_steps * progress + 1e-9) / n_steps)


def constant(progress: float) -> float:
    """1 from the beginning: no ramp."""
    del progress
    return 1.0


def cyclical(progress: float, cycles: int = 4, ramp_share: float = 0.5) -> float:
    """Fu et al. 2019 (arXiv:1903.10145): `cycles` linear ramps, each held at 1 for the rest of its cycle; ends at 1.

    With tau the position inside a cycle and R the `ramp_share`: ``min(tau / R, 1)``. Not monotone.
    """
    if progress >= 1.0:
        return 1.0
    position = progress * cycles
    return min(1.0, (position - math.floor(position)) / ramp_share)


PACINGS: dict[str, Callable[..., float]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "exponential": exponential,
    "root": root,
    "cyclical": cyclical,
    "step": step,
    "constant": constant,
}
Shape = Literal["linear", "cosine", "sigmoid", "exponential", "root", "cyclical", "step", "constant"]


@dataclass(frozen=True)
class Ramp:
    """A value that goes from `start` to `end` along a pacing function.

    ``v(t) = start + (end - start) f(clip(t, 0, 1))``, exact at both ends.

    Args:
        start: the value at progress 0.
        end: the value at progress 1 and after.
        shape: a name in `PACINGS`.
        cycles: number of cycles (`cyclical`) or of rises (`step`).
        ramp_share: share of a cycle that rises (`cyclical`).
        steepness: of `sigmoid` (default 10) and `exponential` (default 5).

    Raises:
        ConfigurationError: an unknown shape (near names given), a value that is not finite, cycles below 1,
            a ramp share outside (0, 1], a steepness that is not positive.
    """

    start: float
    end: float
    shape: str = "linear"
    cycles: int = 4
    ramp_share: float = 0.5
    steepness: float | None = None
    owner: str = "Ramp"

    def __post_init__(self) -> None:
        if self.shape not in PACINGS:
            hint = did_you_mean(str(self.shape), PACINGS)
            raise bad_argument(self.owner, "shape", self.shape, ", ".join(PACINGS), hint)
        for name in ("start", "end"):
            check_number(self.owner, name, getattr(self, name))
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, int) or self.cycles < 1:
            raise bad_argument(self.owner, "cycles", self.cycles, "an int of at least 1")
        check_number(self.owner, "ramp_share", self.ramp_share, above=0.0, at_most=1.0)
        if self.steepness is not None:
            check_number(self.owner, "steepness", self.steepness, above=0.0, at_most=500.0)

    def value(self, progress: float) -> float:
        """The value at `progress`, which is clipped to [0, 1]; NaN counts as 0."""
        t = min(max(progress, 0.0), 1.0) if progress == progress else 0.0
        share = self._pace(t)
        if share == 1.0:
            return float(self.end)  # start + (end - start) is not always end in floating point
        return self.start + (self.end - self.start) * share

    def _pace(self, t: float) -> float:
        if self.shape == "cyclical":
            return cyclical(t, self.cycles, self.ramp_share)
        if self.shape == "step":
            return step(t, self.cycles)
        if self.shape in ("sigmoid", "exponential") and self.steepness is not None:
            return PACINGS[self.shape](t, self.steepness)
        return PACINGS[self.shape](t)


def check_count(owner: str, name: str, value: object, least: int) -> int:
    """Returns `value` as an int, or raises naming owner, argument, value and what is allowed.

    NumPy's integers are counts too; True, 3.0 and "3" are none.

    Raises:
        ConfigurationError: not an integer, or below `least`.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = None
    if count is None or count < least:
        raise bad_argument(owner, name, value, f"an int of {least} or more")
    return count


def check_flag(owner: str, name: str, value: object) -> bool:
    """Returns True or False, or raises naming owner, argument and value: "no" is true, and nobody means it.

    Raises:
        ConfigurationError: neither True nor False.
    """
    if not isinstance(value, bool):
        raise bad_argument(owner, name, value, "True or False")
    return value


def check_number(
    owner: str,
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Returns `value` as a float, or raises naming owner, argument, value and the allowed range.

    Hydra passes a string where a number is meant, and NaN passes every comparison: both end here.

    Raises:
        ConfigurationError: not a real number, not finite, or outside the range.
    """
    bounds = [
        text
        for bound, text in (
            (above, f"above {above:g}" if above is not None else ""),
            (at_least, f"at least {at_least:g}" if at_least is not None else ""),
            (at_most, f"at most {at_most:g}" if at_most is not None else ""),
        )
        if bound is not None
    ]
    allowed = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        not number
        or not math.isfinite(value)  # type: ignore[arg-type]
        or (above is not None and not value > above)  # type: ignore[operator]
        or (at_least is not None and value < at_least)  # type: ignore[operator]
        or (at_most is not None and value > at_most)  # type: ignore[operator]
    ):
        raise bad_argument(owner, name, value, allowed)
    return float(value)  # type: ignore[arg-type]
