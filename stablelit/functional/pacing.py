"""Pacing of a curriculum: how difficult the task is when a share of its ramp has passed.

With p the share of the ramp that has passed and d0 the difficulty at its beginning, the pacings are functions
``phi(p; d0)`` that rise from d0 to 1, and reach 1 exactly. A curriculum is a sequence of re-weighted training
distributions whose last one is the task itself (Bengio et al., ICML 2009), so what ends near 1 has not ended; only
`postmortem` does, which is there to repeat a training that did.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional import schedules
from stablelit.functional.schedules import check_number

_GRID = 256
_CLOSE = 1e-9


def linear(progress: float, first: float) -> float:
    """``d0 + (1 - d0) p``."""
    return _between(first, schedules.linear(progress))


def root(progress: float, first: float, power: float = 2.0) -> float:
    """``[p (1 - d0^r) + d0^r]^(1/r)`` with r = `power`: fast, then slow; Platanios et al. 2019 (arXiv:1903.09848)."""
    lowest = first**power
    return schedules.root(lowest + progress * (1.0 - lowest), power)


def exponential(progress: float, first: float) -> float:
    """``d0^(1 - p)``: grows by the same factor in the same time; slow, then fast.

    It is the `exponential` of :mod:`stablelit.functional.schedules` at the one steepness, ``-log d0``, at which the
    difficulty grows geometrically, and not only what is added to d0.
    """
    return 1.0 if first >= 1.0 else _between(first, schedules.exponential(progress, -math.log(first)))


def saturating(progress: float, first: float, steepness: float = 3.0) -> float:
    """``d0 + (1 - d0) (1 - e^(-k p)) / (1 - e^(-k))``: fast, then slow; the post-mortem's, made to end at 1."""
    return _between(first, schedules.exponential(progress, -steepness))


def cosine(progress: float, first: float) -> float:
    """``d0 + (1 - d0) (1 - cos(pi p)) / 2``: slow at both ends."""
    return _between(first, schedules.cosine(progress))


def power_law(progress: float, first: float, power: float = 2.0) -> float:
    """``d0 + (1 - d0) p^q`` with q = `power`: slow, then fast where q is above 1."""
    return _between(first, float(progress**power))


def logistic(progress: float, first: float, steepness: float = 10.0) -> float:
    """``d0 + (1 - d0) s(p)`` with the logistic s of slope k about the middle, rescaled to end at 0 and 1 exactly."""
    return _between(first, schedules.sigmoid(progress, steepness))


def constant(progress: float, first: float) -> float:
    """1 from the beginning: no curriculum."""
    del first
    return schedules.constant(progress)


def postmortem(progress: float) -> float:
    """``0.1 + 0.9 min(1, 1 - e^(-3 p))``, p not clamped, the exponential in float32: 0.955 where its ramp ends.

    Bit for bit what the published training computed, whose step is a micro-batch.
    """
    share = min(1.0, (1.0 - torch.exp(torch.tensor(-3.0 * progress))).item())
    return 0.1 + 0.9 * share


PACINGS: dict[str, Callable[..., float]] = {
    "linear": linear,
    "root": root,
    "exponential": exponential,
    "saturating": saturating,
    "cosine": cosine,
    "power": power_law,
    "logistic": logistic,
    "constant": constant,
}
_SETTINGS: dict[str, tuple[str, ...]] = {
    "root": ("power",),
    "saturating": ("steepness",),
    "power": ("power",),
    "logistic": ("steepness",),
    "step": ("boundaries", "values"),
}
NAMES = (*PACINGS, "step", "postmortem")


@dataclass(frozen=True)
class Pacing:
    r"""The difficulty along a ramp from `start` to `end`.

    .. math:: d(p) = d_{end}\, \varphi(p;\, d_{start} / d_{end}), \qquad d(0) = d_{start},\quad d(1) = d_{end}

    exactly at both ends. A callable f gives the share of the way: ``d = start + (end - start) f(p)``.

    Args:
        kind: one of `NAMES`, or a callable from [0, 1] to [0, 1] that never falls and ends at 1.
        start: difficulty before the ramp, in [0, 1]; above 0 for `exponential`.
        end: difficulty after it, in (0, 1], at least `start`.
        power: r of `root`, q of `power`; None is 2.
        steepness: of `saturating` (None is 3) and `logistic` (None is 10).
        boundaries: of `step`: shares of the ramp at which the difficulty rises, ascending, in (0, 1]; None is quarters.
        values: of `step`: the difficulty from each boundary on, never falling, the last one `end`; None is equal rises.
        round_to: the difficulty is rounded down to a multiple of it, but for the ends.
        owner: for messages.

    Raises:
        ConfigurationError: an unknown name (near ones given), an argument out of range or without effect, a callable
            that falls (it says where), leaves [0, 1] or does not end at 1.

    Example:
        >>> Pacing("exponential", start=0.25).value(0.5)
        0.5
    """

    kind: str | Callable[[float], float] = "linear"
    start: float = 0.1
    end: float = 1.0
    power: float | None = None
    steepness: float | None = None
    boundaries: Sequence[float] | None = None
    values: Sequence[float] | None = None
    round_to: float | None = None
    owner: str = "Pacing"

    def __post_init__(self) -> None:
        if self.kind not in NAMES and (isinstance(self.kind, str) or not callable(self.kind)):
            hint = did_you_mean(str(self.kind), NAMES)
            raise bad_argument(self.owner, "pacing", self.kind, f"{', '.join(NAMES)}, or a callable", hint)
        check_number(self.owner, "end", self.end, above=0.0, at_most=1.0)
        check_number(self.owner, "start", self.start, at_least=0.0, at_most=self.end)
        if self.kind == "exponential" and self.start == 0:
            raise bad_argument(self.owner, "start", self.start, "above 0: from 0 nothing grows by a factor")
        self._check_settings()
        if self.round_to is not None:
            check_number(self.owner, "round_to", self.round_to, above=0.0, at_most=1.0)
        if self.kind == "step":
            self._check_steps()
        if self.kind == "postmortem" and (self.start, self.end, self.round_to) != (0.1, 1.0, None):
            raise ConfigurationError(
                f"{self.owner}: pacing='postmortem' is 0.1 + 0.9 (1 - exp(-3 p)) as it was published; "
                f"start={self.start}, end={self.end} and round_to={self.round_to} cannot change it. Leave them at 0.1, "
                f"1 and None, or take pacing='saturating', which is the same curve with free ends."
            )
        if not isinstance(self.kind, str):
            self._check_callable(self.kind)

    @property
    def ends(self) -> bool:
        """Whether it has reached `end` when the ramp is over."""
        return self.kind != "postmortem"

    @property
    def name(self) -> str:
        """Its name, or that of the callable."""
        if isinstance(self.kind, str):
            return self.kind
        inner = getattr(self.kind, "func", self.kind)  # of a functools.partial
        return str(getattr(inner, "__qualname__", type(inner).__qualname__))

    def __str__(self) -> str:
        named = {n: getattr(self, n) for n in ("power", "steepness", "boundaries", "values", "round_to")}
        given = "".join(f", {n}={v}" for n, v in named.items() if v is not None)
        return f"{self.name} from {self.start:g} to {self.end:g}{given}"

    def value(self, progress: float) -> float:
        """The difficulty at `progress`; outside [0, 1] it is that of the nearer end, and NaN counts as 0."""
        p = progress if progress > 0.0 else 0.0
        if self.kind == "postmortem":
            return postmortem(p)
        if p >= 1.0:
            return float(self.end)
        return self._rounded(self._before_the_end(p))

    def _before_the_end(self, p: float) -> float:
        if self.kind == "step":
            passed = bisect.bisect_right(self._boundaries, p + _CLOSE)
            return self._values[passed - 1] if passed else self.start
        if not isinstance(self.kind, str):
            return self.start + (self.end - self.start) * float(self.kind(p))
        if p == 0.0 and self.kind != "constant":
            return self.start
        given = {n: getattr(self, n) for n in _SETTINGS.get(self.kind, ()) if getattr(self, n) is not None}
        return self.end * PACINGS[self.kind](p, self.start / self.end, **given)

    def _rounded(self, difficulty: float) -> float:
        if self.round_to is not None:
            difficulty = math.floor(difficulty / self.round_to + _CLOSE) * self.round_to
        return float(min(max(difficulty, self.start), self.end))

    @property
    def _boundaries(self) -> Sequence[float]:
        return (0.25, 0.5, 0.75, 1.0) if self.boundaries is None else self.boundaries

    @property
    def _values(self) -> Sequence[float]:
        if self.values is not None:
            return self.values
        rises = len(self._boundaries)
        return [*(self.start + (self.end - self.start) * k / rises for k in range(1, rises)), self.end]

    def _check_settings(self) -> None:
        has = _SETTINGS.get(self.kind, ()) if isinstance(self.kind, str) else ()
        for name in ("power", "steepness", "boundaries", "values"):
            if getattr(self, name) is not None and name not in has:
                able = [kind for kind, settings in _SETTINGS.items() if name in settings]
                allowed = f"None: only pacing={' or '.join(map(repr, able))} has it, this is {self.name!r}"
                raise bad_argument(self.owner, name, getattr(self, name), allowed)
        if self.power is not None:
            check_number(self.owner, "power", self.power, above=0.0, at_most=100.0)
        if self.steepness is not None:
            check_number(self.owner, "steepness", self.steepness, above=0.0, at_most=500.0)

    def _check_steps(self) -> None:
        for name, lowest in (("boundaries", 0.0), ("values", self.start)):
            given = getattr(self, name)
            if given is None:
                continue
            if isinstance(given, str) or not isinstance(given, Sequence) or not given:
                raise bad_argument(self.owner, name, given, "a list of numbers")
            for index, number in enumerate(given):
                check_number(self.owner, f"{name}[{index}]", number, at_least=lowest, at_most=1.0)
            if list(given) != sorted(given):
                raise bad_argument(self.owner, name, given, "ascending numbers")
        if self._boundaries[0] <= 0.0 or len(set(self._boundaries)) != len(self._boundaries):
            raise bad_argument(self.owner, "boundaries", self.boundaries, "different shares of the ramp above 0")
        if len(self._values) != len(self._boundaries):
            raise bad_argument(self.owner, "values", self.values, f"one each for the boundaries {self._boundaries}")
        if self._values[-1] != self.end:
            raise bad_argument(self.owner, "values", self.values, f"numbers of which the last is end={self.end:g}")

    def _check_callable(self, pace: Callable[[float], float]) -> None:
        before = 0.0
        for k in range(_GRID + 1):
            p = k / _GRID
            share = pace(p)
            try:
                share = float(share)
            except (TypeError, ValueError):
                given = f"a callable that returns a number, not {share!r} at {p:g}"
                raise bad_argument(self.owner, "pacing", self.name, given) from None
            if not 0.0 <= share <= 1.0:
                raise bad_argument(self.owner, "pacing", self.name, f"shares in [0, 1], not {share:g} at {p:g}")
            if share < before:
                raise ConfigurationError(
                    f"{self.owner}: pacing={self.name} falls from {before:g} to {share:g} between {(k - 1) / _GRID:g} "
                    f"and {p:g} of the ramp. Allowed: what never falls. For waves use ScalarSchedule(shape='cyclical')."
                )
            before = share
        if abs(before - 1.0) > _CLOSE:
            raise bad_argument(self.owner, "pacing", self.name, f"a callable that is 1 at 1, not {before:g}")


def _between(first: float, share: float) -> float:
    return first + (1.0 - first) * share
