"""What one picture of curves shows, apart from how it is drawn: its lines, and the same in words and in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stablelit.doctor.evidence.curve import Curve, Floats
from stablelit.report.units import number

_ROWS = 12
_FEWEST_FOR_A_CUT = 40


@dataclass(frozen=True)
class Line:
    """One curve of a picture.

    Args:
        label: beside its end.
        curve: over the panel's axis.
        level: whether it is only to be compared with: drawn dashed, in grey.
        slot: its colour, from 0; lines of one run share a slot in comparisons.
        faint: drawn thinner: one seed of several.
        solid: a grey line that is not dashed: a run among many.
        metric: the name it was logged by.
    """

    label: str
    curve: Curve
    level: bool = False
    slot: int = 0
    faint: bool = False
    solid: bool = False
    metric: str = ""


@dataclass(frozen=True)
class Mark:
    """A finding on the axis.

    Args:
        at: its place.
        number: its number in the list of findings.
        severity: of the finding.
    """

    at: float
    number: int
    severity: str


@dataclass
class Panel:
    """One picture: a metric and, below it on the same axis, the schedule that drives it.

    Args:
        title: what it is.
        lines: of the upper part.
        axis: `epoch` or `optimizer step`.
        unit: of the upper part's axis.
        lower: lines of the lower part; none where there is none.
        lower_title: what the lower part is.
        note: a sentence below the picture.
        marks: findings.
        log: whether the upper axis is logarithmic; None decides by the values.
        from_zero: whether the upper axis begins at 0.
    """

    title: str
    lines: list[Line]
    axis: str = "epoch"
    unit: str = ""
    lower: list[Line] = field(default_factory=list)
    lower_title: str = ""
    note: str = ""
    marks: list[Mark] = field(default_factory=list)
    log: bool | None = None
    from_zero: bool = False

    @property
    def is_logarithmic(self) -> bool:
        """Whether the upper axis is: as it was told, else where everything is above 0 and spans a factor of 40."""
        values = [line.curve.finite().values for line in self.lines]
        whole = np.concatenate(values) if values else np.empty(0)
        if not len(whole) or whole.min() <= 0 or self.log is False:
            return False
        return self.log is True or bool(whole.max() > 40 * whole.min())

    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that the upper part shows: all levels, and all values but a few wild ones.

        A first value that is far above all others would make a straight line of these.
        """
        if self.is_logarithmic:
            whole = np.concatenate([line.curve.finite().values for line in self.lines])
            return float(whole.min()), float(whole.max())
        values = [line.curve.finite().values for line in self.lines if not line.level or line.solid]
        levels = [line.curve.finite().values for line in self.lines if line.level and not line.solid]
        low, high = _without_outliers(np.concatenate([v for v in values if len(v)] or [np.zeros(1)]))
        held = [float(value) for level in levels if len(level) for value in (level.min(), level.max())]
        return min([low, *held]), max([high, *held])

    @property
    def is_cut(self) -> bool:
        """Whether there are values beyond the limits."""
        low, high = self.limits()
        values = [line.curve.finite().values for line in self.lines]
        return not self.is_logarithmic and any(len(v) and (v.min() < low or v.max() > high) for v in values)

    def in_words(self) -> str:
        """The picture for those who do not see it: every line with its numbers."""
        named = [line for line in self.lines if line.label]
        parts = [_told(line, self.axis) for line in named]
        if len(named) < len(self.lines):
            parts.append(f"and {len(self.lines) - len(named)} lines without a name")
        below = "".join(f" Below, {_told(line, self.axis, self.lower_title)}." for line in self.lower)
        marks = ", ".join(f"number {mark.number} at {self.axis} {number(mark.at)}" for mark in self.marks[:8])
        found = f" Findings are marked: {marks}." if marks else ""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} over the {self.axis}: {'; '.join(parts)}.{below}{found}"

    def numbers(self) -> tuple[list[str], list[list[str]]]:
        """A table with some of the points: the first, the last and what lies evenly between."""
        lines = [*(line for line in self.lines if line.label), *self.lower]
        places = np.unique(np.concatenate([line.curve.steps for line in lines]))
        if len(places) > _ROWS:
            places = places[np.unique(np.linspace(0, len(places) - 1, _ROWS).round().astype(int))]
        rows = [[number(float(at)), *(number(_at(line.curve, float(at))) for line in lines)] for at in places]
        return [self.axis, *(line.label or self.lower_title for line in lines)], rows


def _without_outliers(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if len(values) < _FEWEST_FOR_A_CUT:
        return low, high
    a, b = (float(q) for q in np.quantile(values, [0.02, 0.98]))
    room = 6 * (b - a)
    return (max(low, a - room), min(high, b + room)) if room > 0 else (low, high)


def _at(curve: Curve, at: float) -> float | None:
    """The last value at or before a place; None before the first."""
    place = int(np.searchsorted(curve.steps, at, side="right")) - 1
    return float(curve.values[place]) if place >= 0 else None


def _told(line: Line, axis: str, otherwise: str = "") -> str:
    label = line.label or otherwise
    known = line.curve.finite()
    lost = len(line.curve) - len(known)
    if not len(known):
        return f"{label} is never finite"
    first, last = float(known.values[0]), float(known.values[-1])
    if len(known) == 1 or known.values.min() == known.values.max():
        text = f"{label} is {number(first)}"
    else:
        way = "falls" if last < first else "rises" if last > first else "returns"
        low, high = int(known.values.argmin()), int(known.values.argmax())
        text = (
            f"{label} {way} from {number(first)} to {number(last)}, "
            f"least {number(float(known.values[low]))} at {axis} {number(float(known.steps[low]))}, "
            f"most {number(float(known.values[high]))}"
        )
    return f"{text}; not finite at {lost} of {len(line.curve)} points" if lost else text
