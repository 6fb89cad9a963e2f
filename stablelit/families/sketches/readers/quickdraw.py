"""Quick, Draw!: one drawing a line, as JSON, simplified or raw.

Reads   .ndjson, .jsonl: {"word": ..., "recognized": ..., "drawing": [[[x, ...], [y, ...], [t, ...]], ...]}
Class   `word`; without one, the name of the file
Source  the Quick, Draw! dataset of Google, https://github.com/googlecreativelab/quickdraw-dataset (CC BY 4.0)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from stablelit.families.sketches.readers.gathering import Drawing, Gathering, LeaveOut, Request
from stablelit.families.sketches.readers.gathering import strokes_of as joined
from stablelit.families.sketches.readers.source_files import SketchFiles, Unreadable
from stablelit.families.sketches.sketches import Sketches

SUFFIXES = (".ndjson", ".jsonl")
NOT_RECOGNIZED = "not recognized by the game (recognized_only=false keeps them)"
# raw drawings have some 10 kB; a line without an end is no drawing
_LONGEST_LINE = 4 * 2**20
_PUBLISHED_AS = re.compile(r"^full([_ ]|%2F)+(simplified|raw)([_ ]|%2F)+", re.IGNORECASE)


def read_quickdraw(files: SketchFiles, request: Request) -> Sketches:
    """Reads the drawings of all files; of a class the first `max_per_class`.

    Raises:
        DataError: too many bad lines, nothing that can be used.
    """
    gathering: Gathering[Drawing] = Gathering(files.path)
    taken: Counter[str] = Counter()
    for name in files.of(SUFFIXES):
        _read_file(files, name, request, gathering, taken)
        gathering.check_bad("lines")
    return gathering.sketches(joined(gathering.contents))


def _read_file(
    files: SketchFiles, name: str, request: Request, gathering: Gathering[Drawing], taken: Counter[str]
) -> None:
    own_name = _PUBLISHED_AS.sub("", PurePosixPath(name).stem)
    try:
        with files.opened(name) as file:
            for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), b""), 1):
                if not line.strip():
                    continue
                place = f"{files.place(name)}:{number}"
                try:
                    record = _record(line)
                    word = str(record.get("word") or own_name)
                except Unreadable as why:
                    gathering.n_seen += 1
                    gathering.add_bad(place, str(why))
                    continue
                if taken[word] == request.max_per_class:
                    # a file that bears the name of the word has no other
                    if word == own_name:
                        break
                    continue
                taken[word] += gathering.take(word, place, partial(_drawing, record, request, gathering, place))
    except Unreadable as why:
        gathering.n_seen += 1
        gathering.add_bad(files.place(name), str(why))


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:80]}") from error
    if not isinstance(record, dict) or "drawing" not in record:
        raise Unreadable("no object with a 'drawing'")
    return record


def _drawing(record: dict[str, Any], request: Request, gathering: Gathering[Drawing], place: str) -> Drawing:
    if request.recognized_only and record.get("recognized") is False:
        raise LeaveOut(NOT_RECOGNIZED)
    x: list[float] = []
    y: list[float] = []
    lengths: list[int] = []
    if not isinstance(record["drawing"], list):
        raise Unreadable("'drawing' is no list of strokes")
    for stroke in record["drawing"]:
        if not (isinstance(stroke, list) and len(stroke) >= 2 and all(isinstance(axis, list) for axis in stroke[:2])):
            raise Unreadable(f"stroke {len(lengths)} is no [[x, ...], [y, ...]]")
        if len(stroke[0]) != len(stroke[1]):
            raise Unreadable(f"stroke {len(lengths)} has {len(stroke[0])} x and {len(stroke[1])} y")
        x += stroke[0]
        y += stroke[1]
        lengths.append(len(stroke[0]))
    # by their types: numpy would make every number as wide as the longest text among them
    if not {*map(type, x), *map(type, y)} <= {int, float}:
        raise Unreadable("a coordinate is no number")
    try:
        points = np.array([x, y], dtype=np.float64).T
    except OverflowError as error:
        raise Unreadable("a coordinate is a number too large to be any") from error
    return gathering.drawing(points, lengths, place)
