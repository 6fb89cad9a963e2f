"""From what the user asked for to sketches in memory: pictures of all of them, and the samples of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import file_identity
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.sketches.rasterise import rasterise_all
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.splits import SPLITS, class_disjoint, stratified
from stablelit.families.sketches.told import say

_OWNER = "SketchDataModule"
# the SHA-256 of every picture of a large folder would take longer than an epoch
_FILES_HASHED = 64


@dataclass(frozen=True)
class OpenedSketches:
    """Sketches, their pictures, and the places of each split's samples among them."""

    sketches: Sketches
    images: NDArray[np.uint8]
    splits: dict[str, NDArray[np.int64]]
    classes_of_split: dict[str, list[str]]


def pictures_of(sketches: Sketches, size: int, line_width: float) -> NDArray[np.uint8]:
    """The pictures ``(n, S, S)`` of what was read, drawn where they came as strokes; says what was left out."""
    for line in sketches.left_out.lines():
        say(line)
    if sketches.images is not None:
        return sketches.images
    assert sketches.strokes is not None
    return rasterise_all(sketches.strokes, size, line_width)


def opened(
    sketches: Sketches, size: int, line_width: float, split: str | None, parts: Mapping[str, Any], seed: int
) -> OpenedSketches:
    """Draws what came as strokes, and splits.

    Args:
        sketches: as a reader or the generator gives them.
        size: S, the edge of a picture in pixels.
        line_width: of what came as strokes, in pixels.
        split: "class" and "group" keep the classes (or their groups) of the splits apart, "samples" has every class
            in all of them; None splits nothing, and no split has a sketch.
        parts: of "train", "val" and "test": shares, counts, or names of classes or groups.
        seed: of a split of samples.

    Raises:
        ConfigurationError: splits that cannot be made of these classes, or are empty.
    """
    images = pictures_of(sketches, size, line_width)
    labels, everything = sketches.labels, np.arange(len(sketches))
    if split is None:
        return OpenedSketches(sketches, images, dict.fromkeys(SPLITS, everything[:0]), {name: [] for name in SPLITS})
    if not (labels >= 0).any():
        say(
            "no sketch has a class: neighbours and few-shot accuracy are not measured; the best epoch can be that of "
            "val/loss: objective.metric=val/loss objective.mode=min."
        )
    if split == "samples" and len(sketches.classes) < 2:
        # no classes, or one: nothing to keep balanced
        labels = np.zeros(len(sketches), dtype=np.int64)
    if split == "samples":
        splits = dict(zip(SPLITS, stratified(labels, parts, seed), strict=True))
        names = {
            name: sorted({sketches.classes[i] for i in labels[where] if i >= 0 and sketches.classes})
            for name, where in splits.items()
        }
    else:
        chosen = class_disjoint(sketches.classes, sketches.groups, **parts, by=split)
        splits = {name: everything[np.isin(labels, of)] for name, of in zip(SPLITS, chosen, strict=True)}
        names = {name: [sketches.classes[i] for i in of] for name, of in zip(SPLITS, chosen, strict=True)}
    for name, where in splits.items():
        if not len(where):
            raise ConfigurationError(
                f"{_OWNER}: data.{name}={parts[name]} leaves no sketch in it, of {len(sketches)} in "
                f"{len(sketches.classes)} classes. Raise its share, or give counts or names."
            )
    return OpenedSketches(sketches, images, splits, names)


def checked_path(path: str | Path | None, format: str, split: str) -> str | None:
    """The path, where there is one; "digits" for the format that needs none.

    Raises:
        ConfigurationError: no path, and a format or a split that generated sketches do not have.
    """
    if path is not None and not isinstance(path, str | Path):
        raise bad_argument(_OWNER, "path", path, "a folder, a file, or None (generated sketches)")
    if path is not None or format == "digits":
        # scikit-learn has the digits, no folder
        return format if path is None else str(path)
    if format != "auto":
        raise bad_argument(_OWNER, "format", format, "auto", "There is no path: data.path=FOLDER says where files are.")
    if split == "group":
        why = "Generated sketches have no groups; data.path=FOLDER reads your own."
        raise bad_argument(_OWNER, "split", split, "class, samples", why)
    return None


def identity_of(path: str, sketches: Sketches) -> dict[str, Any]:
    """What files these are: of one, its size and SHA-256; of a folder, how many sketches and bytes, and its first."""
    given = Path(path)
    if given.is_file():
        return file_identity(given)
    files: Sequence[str] = sorted({place.rpartition(":")[0] or place for place in sketches.places})
    found = [Path(f) for f in files if Path(f).is_file()]
    return {
        "source": path,
        "files": len(found),
        "bytes": sum(f.stat().st_size for f in found),
        "first_files": [file_identity(f) for f in found[:_FILES_HASHED]] if len(found) <= _FILES_HASHED else [],
    }
