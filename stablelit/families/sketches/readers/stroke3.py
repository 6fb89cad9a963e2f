"""Strokes as plain arrays of numpy, and what the stroke-3 of sketch-rnn becomes.

| array | shape | what |
|---|---|---|
| points | (M, 2) | x to the right, y down |
| begins | (M,) bool | where a stroke begins |
| offsets | (n + 1,) | drawing i is ``points[offsets[i] : offsets[i + 1]]`` |
| labels | (n,) | places in `classes`, -1 unknown; may be left out |
| classes | (C,) text | their names; may be left out with `labels` |
| groups | (C,) text | of each class the name of its group; may be left out |

sketch-rnn's own files hold Python objects, which numpy can only read by running what is in them: they are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import replacing
from stablelit.data.safe_load import opened_arrays
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.sketches.readers.gathering import Drawing, Gathering, Request
from stablelit.families.sketches.readers.gathering import strokes_of as joined
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.strokes import Strokes

_NEEDED = ("points", "begins", "offsets")
_OPTIONAL = ("labels", "classes", "groups")
_SKETCH_RNN = ("train", "valid", "test")


def read_stroke3(path: Path, request: Request) -> Sketches:
    """Reads a file as `write_strokes` writes it; of a class `max_per_class`, the first.

    Raises:
        DataError: arrays that are missing, of Python objects, or do not go together.
    """
    arrays = _arrays(path)
    points, begins, offsets = (arrays[name] for name in _NEEDED)
    n = len(offsets) - 1
    names = _class_names(path, arrays, n)
    gathering: Gathering[Drawing] = Gathering(path)
    taken: Counter[str | None] = Counter()
    for i in range(n):
        if taken[names[i]] == request.max_per_class:
            continue
        place, here = f"{path}[{i}]", slice(int(offsets[i]), int(offsets[i + 1]))
        starts = np.flatnonzero(begins[here])
        lengths = np.diff([*starts, here.stop - here.start]).tolist()
        taken[names[i]] += gathering.take(
            names[i],
            place,
            lambda h=here, k=lengths, p=place: gathering.drawing(points[h], k, p),  # type: ignore[misc]
        )
    groups = dict(zip(arrays["classes"].tolist(), arrays["groups"].tolist(), strict=True)) if "groups" in arrays else {}
    return gathering.sketches(joined(gathering.contents), groups.__getitem__ if groups else None)


def write_strokes(path: str | Path, sketches: Sketches) -> None:
    """Writes sketches with strokes as one .npz, whole or not at all.

    Raises:
        ConfigurationError: sketches that are pictures, a path that does not end in .npz.
    """
    if sketches.strokes is None:
        raise ConfigurationError("write_strokes: these sketches are pictures. Allowed: sketches with strokes.")
    if Path(path).suffix != ".npz":
        raise ConfigurationError(f"write_strokes: {path} is no name of such a file. Allowed: one that ends in .npz.")
    groups = {} if sketches.groups is None else {"groups": np.array(sketches.groups, dtype=np.str_)}
    with replacing(path) as file:
        np.savez_compressed(
            file,
            points=sketches.strokes.points,
            begins=sketches.strokes.begins,
            offsets=sketches.strokes.offsets,
            labels=sketches.labels,
            classes=np.array(sketches.classes, dtype=np.str_),
            **groups,  # type: ignore[arg-type]
        )


def strokes_of_stroke3(drawings: Sequence[NDArray[Any]]) -> Strokes:
    """The drawings of sketch-rnn as strokes.

    A row is (dx, dy, p): the pen moves by so much from where it was, and is lifted afterwards where p is 1
    (Ha and Eck 2017, arXiv:1704.03477). The first row's move is from the origin.

    Args:
        drawings: each ``(P, 3)``.

    >>> strokes_of_stroke3([np.array([[1, 0, 0], [0, 2, 1], [5, 5, 1]])]).drawing(0)[1].tolist()
    [[6.0, 7.0]]
    """
    made = []
    for rows in drawings:
        rows = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
        begins = np.concatenate([[True], rows[:-1, 2] > 0.5])[: len(rows)]
        made.append((rows[:, :2].cumsum(axis=0).astype(np.float32), begins))
    return joined(made)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with opened_arrays(path) as file:
        found = list(file.files)
        if set(found) & set(_SKETCH_RNN) and "points" not in found:
            raise DataError(
                f"{path}: has {', '.join(n for n in _SKETCH_RNN if n in found)}, the stroke-3 arrays of sketch-rnn. "
                f"They are Python objects, and to read these is to run what is in the file. If you trust where it is "
                f"from, convert it once: drawings = numpy.load(path, allow_pickle=True, encoding='latin1')['train']; "
                f"strokes = strokes_of_stroke3(drawings); numpy.savez(new_path, points=strokes.points, "
                f"begins=strokes.begins, offsets=strokes.offsets, labels=..., classes=...). Both are in "
                f"stablelit.families.sketches.readers."
            )
        if missing := [name for name in _NEEDED if name not in found]:
            raise DataError(
                f"{path}: has no array {missing[0]!r}. Found: {', '.join(sorted(found)) or 'nothing'}. Needed: "
                f"{', '.join(_NEEDED)}, and for classes labels and classes."
            )
        arrays = {name: file[name] for name in (*_NEEDED, *_OPTIONAL) if name in found}
    points, begins, offsets = (arrays[name] for name in _NEEDED)
    _check(path, "points", points, "fiu", "(M, 2)", points.ndim == 2 and points.shape[-1] == 2)
    _check(path, "begins", begins, "b", f"({len(points)},) bool", begins.shape == (len(points),))
    _check(path, "offsets", offsets, "iu", "(n + 1,) integers", offsets.ndim == 1 and len(offsets) > 0)
    if offsets[0] != 0 or offsets[-1] != len(points) or (np.diff(offsets.astype(np.int64)) < 0).any():
        raise DataError(f"{path}: offsets do not rise from 0 to {len(points)}, the number of points.")
    first = offsets[:-1][np.diff(offsets.astype(np.int64)) > 0]
    if not begins[first].all():
        i = int(np.flatnonzero(~begins[first])[0])
        raise DataError(f"{path}: begins[{int(first[i])}] is False, where a drawing begins. Allowed: True.")
    return arrays


def _class_names(path: Path, arrays: dict[str, NDArray[Any]], n: int) -> list[str | None]:
    if "labels" not in arrays:
        return [None] * n
    if "classes" not in arrays:
        raise DataError(f"{path}: has labels and no classes. Give both, or neither.")
    _check(path, "labels", arrays["labels"], "iu", f"({n},) integers", arrays["labels"].shape == (n,))
    labels, classes = arrays["labels"].astype(np.int64), arrays["classes"]
    _check(path, "classes", classes, "U", "(C,) text", classes.ndim == 1)
    if "groups" in arrays:
        _check(
            path, "groups", arrays["groups"], "U", f"({len(classes)},) text", arrays["groups"].shape == classes.shape
        )
    if len(np.unique(classes)) < len(classes):
        raise DataError(f"{path}: classes has a name twice. Allowed: every name once.")
    if len(bad := np.flatnonzero((labels < -1) | (labels >= len(classes)))):
        raise DataError(
            f"{path}: labels[{bad[0]}] is {labels[bad[0]]}. Allowed: -1 (unknown) to {len(classes) - 1}, places in "
            f"classes."
        )
    return [None if label < 0 else str(classes[label]) for label in labels]


def _check(path: Path, name: str, array: NDArray[Any], kinds: str, allowed: str, has_shape: bool) -> None:
    if array.dtype.kind not in kinds or not has_shape:
        raise DataError(f"{path}: {name} is {array.dtype} of shape {array.shape}. Allowed: {allowed}.")
