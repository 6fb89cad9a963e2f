"""The data of an SVG path as strokes: every subpath a line of points, every curve 16 straight segments.

Source: Scalable Vector Graphics (SVG) 1.1, W3C, chapter 8 (paths) and appendix F.6 (arcs).
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from stablelit.families.sketches.readers.source_files import Unreadable

SEGMENTS = 16
_FARTHEST = 1e15
Points = NDArray[np.float64]

# of what can match in one way only, so that no text takes long
NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(NUMBER)
# an arc's flags need no separator behind them: "a1 1 0 01 10 10"
_NEXT_NUMBER, _NEXT_FLAG = re.compile(rf"[\s,]*({NUMBER})"), re.compile(r"[\s,]*([01])")
_COMMAND = re.compile(r"([MmLlHhVvCcSsQqTtAaZz])([^MmLlHhVvCcSsQqTtAaZz]*)")
_ARITY = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
_T = np.arange(1, SEGMENTS + 1) / SEGMENTS
# Bernstein polynomials of degree 2 and 3 at the ends of the segments, by the number of control points
_BASIS = {
    d + 1: np.stack([math.comb(d, k) * _T**k * (1 - _T) ** (d - k) for k in range(d + 1)], axis=1) for d in (2, 3)
}


def numbers_in(text: str) -> Points:
    """The numbers of a list, which blanks or commas separate.

    Raises:
        Unreadable: anything else is in it.
    """
    if rest := _NUMBERS.sub(" ", text).replace(",", " ").split():
        raise Unreadable(f"{rest[0][:20]!r} where a number is due")
    return np.array(_NUMBERS.findall(text), dtype=np.float64)


def strokes_of_path(data: str) -> list[Points]:
    """The subpaths of a path, each ``(P, 2)``.

    A subpath that only moves is not drawn; a path that is nothing but one move is a dot, as drawing programs write it.

    Args:
        data: the attribute `d`.

    Raises:
        Unreadable: not the data of a path.
    """
    pen = _Pen()
    end = 0
    for match in _COMMAND.finditer(data):
        if rest := data[end : match.start()].strip(" \t\r\n,"):
            raise Unreadable(f"a path with {rest[:20]!r}")
        end = match.end()
        pen.follow(match[1], match[2])
    if rest := data[end:].strip(" \t\r\n,"):
        raise Unreadable(f"a path with {rest[:20]!r}")
    pen.lift()
    return pen.strokes or ([pen.at[None]] if pen.n_commands == 1 else [])


class _Pen:
    def __init__(self) -> None:
        self.strokes: list[Points] = []
        self.at = self.start = np.zeros(2)
        self.n_commands = 0
        self._drawn: list[Points] = []
        # of the last command: what smooth curves are continued from, and its letter
        self._control, self._last = np.zeros(2), ""

    def lift(self) -> None:
        if self._drawn:
            self.strokes.append(np.concatenate(self._drawn))
        self._drawn = []

    def follow(self, letter: str, text: str) -> None:
        self.n_commands += 1
        command, relative = letter.upper(), letter.islower()
        if self.n_commands == 1 and command != "M":
            raise Unreadable(f"a path that begins with {letter!r} and not with M")
        if command == "Z":
            if text.strip(" \t\r\n,"):
                raise Unreadable(f"numbers behind {letter!r}")
            self._draw(self.start[None])
            self.lift()
        else:
            rows = _arcs_in(text) if command == "A" else numbers_in(text)
            if not rows.size or rows.size % _ARITY[command]:
                raise Unreadable(f"{rows.size} numbers behind {letter!r}, which takes {_ARITY[command]} each time")
            getattr(self, f"_{command}")(rows.reshape(-1, _ARITY[command]), self.at if relative else None)
        self._last = command

    def _draw(self, points: Points) -> None:
        if not self._drawn:
            self._drawn.append(self.at[None])
        self._drawn.append(points)
        self.at = points[-1]

    def _M(self, rows: Points, origin: Points | None) -> None:
        self.lift()
        self.at = self.start = rows[0] if origin is None else origin + rows[0]
        if len(rows) > 1:
            self._L(rows[1:], None if origin is None else self.at)

    def _L(self, rows: Points, origin: Points | None) -> None:
        self._draw(rows if origin is None else origin + rows.cumsum(axis=0))

    def _H(self, rows: Points, origin: Points | None) -> None:
        x = rows[:, 0] if origin is None else origin[0] + rows[:, 0].cumsum()
        self._draw(np.stack([x, np.full_like(x, self.at[1])], axis=1))

    def _V(self, rows: Points, origin: Points | None) -> None:
        y = rows[:, 0] if origin is None else origin[1] + rows[:, 0].cumsum()
        self._draw(np.stack([np.full_like(y, self.at[0]), y], axis=1))

    def _C(self, rows: Points, origin: Points | None) -> None:
        self._curves(*self._placed(rows, origin))

    def _S(self, rows: Points, origin: Points | None) -> None:
        starts, points = self._placed(rows, origin)
        # the first control point mirrors the second one of the curve before
        before = np.concatenate(
            [(self._control if self._last in "CS" and self._last else self.at)[None], points[:-1, 0]]
        )
        self._curves(starts, np.concatenate([(2 * starts - before)[:, None], points], axis=1))

    def _Q(self, rows: Points, origin: Points | None) -> None:
        self._curves(*self._placed(rows, origin))

    def _T(self, rows: Points, origin: Points | None) -> None:
        starts, points = self._placed(rows, origin)
        control = self._control if self._last in "QT" and self._last else self.at
        controls = np.empty_like(starts)
        for k, start in enumerate(starts):
            control = controls[k] = 2 * start - control
        self._curves(starts, np.concatenate([controls[:, None], points], axis=1))

    def _A(self, rows: Points, origin: Points | None) -> None:
        for row in rows:
            end = row[5:] if origin is None else self.at + row[5:]
            self._draw(arc(self.at, end, abs(row[0]), abs(row[1]), math.radians(row[2]), bool(row[3]), bool(row[4])))

    def _placed(self, rows: Points, origin: Points | None) -> tuple[Points, Points]:
        """Where each curve begins ``(K, 2)``, and its other points ``(K, n, 2)``, not relative any more."""
        points = rows.reshape(len(rows), -1, 2)
        if origin is not None:
            ends = origin + points[:, -1].cumsum(axis=0)
            return np.concatenate([origin[None], ends[:-1]]), points + np.concatenate([origin[None], ends[:-1]])[
                :, None
            ]
        return np.concatenate([self.at[None], points[:-1, -1]]), points

    def _curves(self, starts: Points, points: Points) -> None:
        controls = np.concatenate([starts[:, None], points], axis=1)
        self._draw((_BASIS[controls.shape[1]] @ controls).reshape(-1, 2))
        self._control = controls[-1, -2]


def arc(start: Points, end: Points, rx: float, ry: float, turn: float, large: bool, sweep: bool) -> Points:
    """Points on an elliptical arc, 16 a quarter of the ellipse, without `start`, ``(P, 2)``.

    By the centre of the ellipse, which appendix F.6 derives from its ends; radii that are too small are enlarged.
    """
    far = np.abs([*start, *end, rx, ry, turn]).max()
    # a radius of nothing is a line, and so is what no number can hold
    if not far < _FARTHEST or min(rx, ry, float(np.abs(start - end).max())) < 1 / _FARTHEST:
        return end[None]
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    half = rotation @ (start - end) / 2
    radii = np.array([rx, ry])
    radii *= max(1.0, math.sqrt(float(((half / radii) ** 2).sum())))
    # on the unit circle: half the chord, and from its middle to the centre
    x, y = half / radii
    across = math.sqrt(max(0.0, 1 / (x * x + y * y) - 1)) * (1 if large != sweep else -1)
    centre = across * np.array([y, -x])
    first, last = (math.atan2(s * y - centre[1], s * x - centre[0]) for s in (1, -1))
    swept = (last - first) % (2 * math.pi) if sweep else -((first - last) % (2 * math.pi))
    n = SEGMENTS * max(1, math.ceil(abs(swept) / (math.pi / 2) - 1e-9))
    angles = first + swept * np.arange(1, n + 1) / n
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) + centre
    points: Points = (unit * radii) @ rotation + (start + end) / 2
    points[-1] = end
    return points


def _arcs_in(text: str) -> Points:
    found: list[str] = []
    text, end = text.rstrip(" \t\r\n,"), 0
    while end < len(text):
        match = (_NEXT_FLAG if len(found) % 7 in (3, 4) else _NEXT_NUMBER).match(text, end)
        if match is None:
            raise Unreadable(f"an arc with {text[end : end + 20].strip()!r}")
        found.append(match[1])
        end = match.end()
    return np.array(found, dtype=np.float64)
