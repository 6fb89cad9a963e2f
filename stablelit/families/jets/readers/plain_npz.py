"""Our own plain format: the arrays of `JetArrays` in an uncompressed ``.npz``, without pickles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stablelit.data.files import replacing
from stablelit.data.safe_load import Arrays, opened_arrays
from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import existing_file

KEYS = ("particles", "mask", "jet", "label", "classes")


def is_plain_npz(path: Path) -> bool:
    """Whether an array of ours is in the file."""
    with opened_npz(path) as file:
        return any(key in file.files for key in KEYS)


@contextmanager
def opened_npz(path: str | Path) -> Iterator[Arrays]:
    """An open ``.npz``; what goes wrong inside the block is told as what is wrong with the file.

    Raises:
        DataError: no such file, a directory, not an npz file, damaged, arrays of Python objects.
    """
    with opened_arrays(existing_file(path)) as file:
        yield file


def read_npz(path: Path) -> Iterator[JetArrays]:
    """The jets of a file that `write_npz` made, all at once; they are not validated yet.

    Raises:
        DataError: no such file, a directory, not an npz file, damaged, other arrays inside.
    """
    with opened_npz(path) as file:
        found = sorted(file.files)
        missing = [key for key in KEYS if key not in found]
        if missing:
            others = [name for name in found if name not in KEYS]
            # an "x" is nearer to EnergyFlow's X than to any name of ours
            near = [did_you_mean(name, others) for name in missing] + ["Did you mean 'X' for 'x'?"] * ("x" in others)
            raise DataError(
                f"{path}: lacks the array(s) {', '.join(missing)}. Found: {', '.join(found) or 'nothing'}. "
                f"Allowed: files with {', '.join(KEYS)}, as stablelit writes them, or with X and y, as EnergyFlow does."
                f" {' '.join(dict.fromkeys(filter(None, near)))}".rstrip()
            )
        particles, mask, jet, label, classes = (file[key] for key in KEYS)
    for name, values in (("particles", particles), ("mask", mask), ("jet", jet), ("label", label)):
        if values.dtype.kind not in "fiub":
            raise DataError(f"{path}: {name!r} has values of type {values.dtype}. Allowed: numbers.")
    wrong = np.argwhere((mask != 0) & (mask != 1))
    if len(wrong):
        place = ", ".join(f"{name} {at}" for name, at in zip(("jet", "particle"), wrong[0].tolist(), strict=False))
        value = mask[tuple(wrong[0])]
        raise DataError(f"{path}: {place} has mask={value}. Allowed: True and False, or 1 and 0.")
    if label.dtype.kind not in "iu":
        raise DataError(f"{path}: 'label' has values of type {label.dtype}. Allowed: whole numbers.")
    yield JetArrays(
        particles.astype(np.float32, copy=False),
        mask.astype(bool, copy=False),
        jet.astype(np.float32, copy=False),
        label.astype(np.int64, copy=False),
        tuple(str(name) for name in np.atleast_1d(classes)),
    )


def write_npz(path: str | Path, jets: JetArrays) -> None:
    """Writes the arrays; the file appears whole or not at all."""
    with replacing(path) as temporary:
        arrays = {key: getattr(jets, key) for key in KEYS[:-1]}
        np.savez(temporary, **arrays, classes=np.array(jets.classes))
