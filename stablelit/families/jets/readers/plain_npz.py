"""Our own plain format: the arrays of `JetArrays` in an uncompressed ``.npz``, without pickles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from stablelit.errors import DataError
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import existing_file, replacing

KEYS = ("particles", "mask", "jet", "label", "classes")


def read_npz(path: str | Path) -> JetArrays:
    """Reads a file that `write_npz` made; the jets are not validated yet.

    Raises:
        DataError: no such file, a directory, not an npz file, damaged, other arrays inside.
    """
    path = existing_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            found = sorted(file.files)
            missing = [key for key in KEYS if key not in found]
            if missing:
                raise DataError(
                    f"{path}: lacks the array(s) {', '.join(missing)}. Found: {', '.join(found) or 'nothing'}. "
                    f"Allowed: files with {', '.join(KEYS)}, as stablelit writes them."
                )
            particles, mask, jet, label, classes = (file[key] for key in KEYS)
    except (zipfile.BadZipFile, OSError, EOFError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as .npz ({error}). It is damaged or another format.") from error
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"{path}: has arrays of Python objects or is no .npz file ({error}). Allowed: plain numbers."
        ) from error
    return JetArrays(
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
