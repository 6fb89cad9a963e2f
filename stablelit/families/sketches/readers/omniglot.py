"""Omniglot as released: characters of alphabets by twenty drawers each, as pictures or as pen strokes; folder or zip.

Reads   <alphabet>/character<NN>/<XXXX>_<YY>.png, or .txt with lines START, "x,y,t" and BREAK; YY is the drawer
Class   <alphabet>/character<NN>, of the group <alphabet>
Source  Lake, Salakhutdinov and Tenenbaum, Science 350 (2015); https://github.com/brendenlake/omniglot (MIT)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from stablelit.errors import DataError
from stablelit.families.sketches.readers.gathering import Drawing, Gathering, Request
from stablelit.families.sketches.readers.gathering import strokes_of as joined
from stablelit.families.sketches.readers.pictures import read_pictures_of
from stablelit.families.sketches.readers.source_files import MOST_TEXT_BYTES, SketchFiles, Unreadable
from stablelit.families.sketches.sketches import Sketches

_NAME = re.compile(r"(?:.*/)?([^/]+/character\d+)/\d+_\d+\.(png|txt)$", re.IGNORECASE)


def omniglot_classes(names: Sequence[str], suffix: str) -> dict[str | None, list[str]]:
    """The files that are named as Omniglot's are and end so, by class."""
    classes: dict[str | None, list[str]] = {}
    for name in names:
        if (match := _NAME.match(name)) and match[2].lower() == suffix:
            classes.setdefault(match[1], []).append(name)
    return classes


def read_omniglot_images(files: SketchFiles, request: Request) -> Sketches:
    """Reads the pictures of characters.

    Raises:
        DataError: none of them is there, and as the reader of pictures.
    """
    return read_pictures_of(files, _found(files, "png"), request, _alphabet)


def read_omniglot_strokes(files: SketchFiles, request: Request) -> Sketches:
    """Reads the pen strokes of characters; y points down, as everywhere here.

    Raises:
        DataError: none of them is there, too many bad files.
    """
    gathering: Gathering[Drawing] = Gathering(files.path)

    def read(name: str) -> Drawing:
        points, lengths = _pen_strokes(files.read(name, MOST_TEXT_BYTES))
        return gathering.drawing(points, lengths, files.place(name))

    gathering.take_files(files, _found(files, "txt"), read, request)
    return gathering.sketches(joined(gathering.contents), _alphabet)


def _alphabet(name: str) -> str:
    return name.partition("/")[0]


def _found(files: SketchFiles, suffix: str) -> dict[str | None, list[str]]:
    classes = omniglot_classes(files.names, suffix)
    if not classes:
        raise DataError(
            f"{files.path}: has no <alphabet>/character<NN>/<XXXX>_<YY>.{suffix}, which Omniglot is. Name its folder "
            f"or zip, for example images_background."
        )
    return classes


def _pen_strokes(data: bytes) -> tuple[np.ndarray, list[int]]:
    rows: list[str] = []
    ends = [0]
    for number, line in enumerate(data.decode("ascii", "replace").split("\n"), 1):
        text = line.strip()
        if text in ("START", "BREAK"):
            ends.append(len(rows))
        elif text.count(",") == 2:
            rows.append(text)
        elif text:
            raise Unreadable(f"line {number}: {text[:30]!r}, which is neither START, BREAK nor x,y,t")
    ends.append(len(rows))
    try:
        points = np.array(",".join(rows).split(",") if rows else [], dtype=np.float64).reshape(-1, 3)[:, :2]
    except ValueError as error:
        raise Unreadable(f"a coordinate is no number ({error})") from error
    # the pen's y grows upwards and is negative
    return points * [1.0, -1.0], [length for length in np.diff(ends).tolist() if length]
