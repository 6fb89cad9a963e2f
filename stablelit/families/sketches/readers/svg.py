"""Sketches as SVG files: what is drawn by paths and simple shapes, as strokes in the order of the file.

Reads   path (all commands), polyline, polygon, line, rect, circle, ellipse; transforms of any depth
Class   the folder of a file; of a flat folder none (-1)
Leaves  text, use, ... (counted and told); definitions, and what has display="none"
Refuses entities, a DOCTYPE with declarations, pictures and references to anything outside the file: nothing is fetched
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.sketches.readers.gathering import Drawing, Gathering, Request
from stablelit.families.sketches.readers.gathering import strokes_of as joined
from stablelit.families.sketches.readers.source_files import MOST_TEXT_BYTES, SketchFiles, Unreadable, of_folders
from stablelit.families.sketches.readers.svg_paths import NUMBER, SEGMENTS, Points, numbers_in, strokes_of_path
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.told import say

SUFFIXES = (".svg",)
# what is in these is drawn elsewhere or nowhere
_NOT_SHOWN = {"defs", "clipPath", "mask", "symbol", "marker", "pattern", "metadata", "title", "desc", "style", "script"}
_PLAIN = {"svg", "g", "a", "switch"}
MOST_POINTS = 1 << 18
"""Of a drawing. TU-Berlin's have some thousand; four characters of a curve are 16 points, so text alone is no bound."""
_TRANSFORM = re.compile(r"[\s,]*(\w+)\s*\(([^()]*)\)[\s,]*")
_LENGTH = re.compile(rf"\s*({NUMBER})\s*(?:px\s*)?")


def read_svg(files: SketchFiles, request: Request) -> Sketches:
    """Reads folders of SVG files.

    Raises:
        DataError: a file with entities or references to something outside, too many bad files, nothing of use.
    """
    classes, note = of_folders(files.of(SUFFIXES))
    if note:
        say(f"{files.path}: {note}.")
    return read_svg_of(files, classes, request)


def read_svg_of(files: SketchFiles, classes: Mapping[str | None, Sequence[str]], request: Request) -> Sketches:
    """Reads these files, by class."""
    gathering: Gathering[Drawing] = Gathering(files.path)
    not_drawn: Counter[str] = Counter()

    def read(name: str) -> Drawing:
        strokes, others = strokes_of_svg(files.read(name, MOST_TEXT_BYTES), files.place(name))
        not_drawn.update(others)
        points = np.concatenate([np.zeros((0, 2)), *strokes])
        return gathering.drawing(points, [len(stroke) for stroke in strokes], files.place(name))

    gathering.take_files(files, classes, read, request)
    if not_drawn:
        counts = ", ".join(f"{name} ({n})" for name, n in not_drawn.most_common())
        say(f"{files.path}: elements that are not drawn: {counts}.")
    return gathering.sketches(joined(gathering.contents))


def strokes_of_svg(data: bytes, place: str) -> tuple[list[Points], Counter[str]]:
    """The strokes of a file, each ``(P, 2)``, x to the right and y down, and what is in it that is not drawn.

    Raises:
        DataError: entities, or references to something outside: such a file is not to be trusted.
        Unreadable: no SVG.
    """
    drawing = _Drawing(place)
    parser = expat.ParserCreate()
    parser.StartElementHandler = drawing.begin
    parser.EndElementHandler = drawing.end
    # the DOCTYPE of the W3C alone is in files of many programs, and harmless: it is never looked up
    parser.StartDoctypeDeclHandler = lambda *doctype: drawing.refuse("declarations (a DTD)") if doctype[3] else None
    parser.EntityDeclHandler = lambda *_: drawing.refuse("an entity")
    parser.UnparsedEntityDeclHandler = lambda *_: drawing.refuse("an entity")
    parser.ExternalEntityRefHandler = lambda *_: drawing.refuse("an external entity")
    parser.SkippedEntityHandler = lambda name, is_parameter: drawing.refuse(f"the entity {name!r}")
    try:
        # numbers too large to be any: such points are left out by the caller
        with np.errstate(invalid="ignore", over="ignore"):
            parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"line {error.lineno}: {expat.errors.messages[error.code]}") from error
    except Unreadable as error:
        raise Unreadable(f"line {parser.CurrentLineNumber}: {error}") from error
    return drawing.strokes, drawing.not_drawn


class _Drawing:
    def __init__(self, place: str) -> None:
        self.strokes: list[Points] = []
        self.not_drawn: Counter[str] = Counter()
        self._place = place
        self._matrices: list[NDArray[np.float64]] = [np.eye(3)]
        self._n_points = 0
        self._hidden = 0

    def refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self._place}: has {what}. Allowed: drawings without entities, pictures, or references to anything "
            f"outside the file; none is ever looked up. Take it out, or the file away."
        )

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        element = name.rpartition(":")[2]
        if len(self._matrices) == 1 and element != "svg":
            raise Unreadable(f"<{name}> where <svg> is due")
        for key, value in attributes.items():
            if key.rpartition(":")[2] == "href" and not value.strip().startswith("#"):
                self.refuse(f"a reference to {value.strip()[:60]!r}")
        if element == "image":
            self.refuse("a picture (<image>)")
        matrix = self._matrices[-1]
        if transform := attributes.get("transform"):
            matrix = matrix @ matrix_of(transform)
        self._matrices.append(matrix)
        if self._hidden or element in _NOT_SHOWN or _is_off(attributes):
            self._hidden += 1
        elif element in _SHAPES:
            for stroke in _SHAPES[element](attributes):
                self._n_points += len(stroke)
                if self._n_points > MOST_POINTS:
                    raise Unreadable(f"more than {MOST_POINTS} points, which no sketch has")
                self.strokes.append(stroke @ matrix[:2, :2].T + matrix[:2, 2])
        elif element not in _PLAIN:
            self.not_drawn[f"<{name}>"] += 1

    def end(self, name: str) -> None:
        self._matrices.pop()
        self._hidden = max(0, self._hidden - 1)


def _is_off(attributes: Mapping[str, str]) -> bool:
    return (
        attributes.get("display") == "none" or re.search(r"display\s*:\s*none", attributes.get("style", "")) is not None
    )


def matrix_of(transform: str) -> NDArray[np.float64]:
    """The attribute `transform` as one matrix ``(3, 3)``: the first of its parts is applied last.

    Raises:
        Unreadable: not a transform.
    """
    matrix, end = np.eye(3), 0
    while match := _TRANSFORM.match(transform, end):
        end = match.end()
        kind, numbers = match[1], numbers_in(match[2]).tolist()
        known = _TRANSFORMS.get((kind, len(numbers)))
        # 1e999 is infinite, and has no cosine
        if known is None or not all(map(math.isfinite, numbers)):
            raise Unreadable(f"the transform {match[0].strip()[:40]!r}")
        a, b, c, d, e, f = known(*numbers)
        matrix = matrix @ np.array([[a, c, e], [b, d, f], [0, 0, 1]])
    if end < len(transform.rstrip()):
        raise Unreadable(f"the transform {transform[end : end + 40]!r}")
    return matrix


Six = tuple[float, float, float, float, float, float]


def _rotated(degrees: float, x: float = 0.0, y: float = 0.0) -> Six:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y


_TRANSFORMS: dict[tuple[str, int], Callable[..., Six]] = {
    ("matrix", 6): lambda *six: six,
    ("translate", 1): lambda x: (1, 0, 0, 1, x, 0),
    ("translate", 2): lambda x, y: (1, 0, 0, 1, x, y),
    ("scale", 1): lambda s: (s, 0, 0, s, 0, 0),
    ("scale", 2): lambda x, y: (x, 0, 0, y, 0, 0),
    ("rotate", 1): _rotated,
    ("rotate", 3): _rotated,
    ("skewX", 1): lambda degrees: (1, 0, math.tan(math.radians(degrees)), 1, 0, 0),
    ("skewY", 1): lambda degrees: (1, math.tan(math.radians(degrees)), 0, 1, 0, 0),
}


def _length(attributes: Mapping[str, str], name: str) -> float:
    match = _LENGTH.fullmatch(attributes.get(name, "0"))
    if match is None:
        raise Unreadable(f"{name}={attributes[name][:20]!r}, which is no number of pixels")
    return float(match[1])


def _points(attributes: Mapping[str, str]) -> Points:
    numbers = numbers_in(attributes.get("points", ""))
    if numbers.size % 2:
        raise Unreadable(f"{numbers.size} numbers as points")
    return numbers.reshape(-1, 2)


def _polyline(attributes: Mapping[str, str]) -> list[Points]:
    points = _points(attributes)
    return [points] if len(points) else []


def _polygon(attributes: Mapping[str, str]) -> list[Points]:
    points = _points(attributes)
    return [np.concatenate([points, points[:1]])] if len(points) else []


def _line(attributes: Mapping[str, str]) -> list[Points]:
    return [np.array([[_length(attributes, f"{axis}{end}") for axis in "xy"] for end in "12"])]


def _rect(attributes: Mapping[str, str]) -> list[Points]:
    x, y, width, height = (_length(attributes, name) for name in ("x", "y", "width", "height"))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=np.float64)
    return [np.array([x, y]) + corners * [width, height]] if width > 0 and height > 0 else []


def _ellipse(attributes: Mapping[str, str]) -> list[Points]:
    radii = [_length(attributes, name if name in attributes else "r") for name in ("rx", "ry")]
    angles = np.linspace(0, 2 * math.pi, 4 * SEGMENTS + 1)
    centre = np.array([_length(attributes, "cx"), _length(attributes, "cy")])
    return [centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii] if min(radii) > 0 else []


_SHAPES: dict[str, Callable[[Mapping[str, str]], list[Points]]] = {
    "path": lambda attributes: strokes_of_path(attributes.get("d", "")),
    "polyline": _polyline,
    "polygon": _polygon,
    "line": _line,
    "rect": _rect,
    "circle": _ellipse,
    "ellipse": _ellipse,
}
