"""Files of jets, by suffix. One format a file; a new format is one entry of `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.jetnet_hdf5 import read_jetnet_hdf5, write_jetnet_hdf5
from stablelit.families.jets.readers.plain_npz import read_npz, write_npz

__all__ = [
    "FORMATS",
    "Format",
    "format_of",
    "read_jetnet_hdf5",
    "read_jets",
    "read_npz",
    "write_jetnet_hdf5",
    "write_jets",
    "write_npz",
]


@dataclass(frozen=True)
class Format:
    """A file format: what it is called, and how it is read and written."""

    name: str
    read: Callable[[str | Path], JetArrays]
    write: Callable[[str | Path, JetArrays], None]


_HDF5 = Format("JetNet HDF5", read_jetnet_hdf5, write_jetnet_hdf5)
FORMATS: dict[str, Format] = {
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".npz": Format("plain numpy arrays, as written by stablelit", read_npz, write_npz),
}


def format_of(path: str | Path) -> Format:
    """The format that goes with the suffix of `path`.

    Raises:
        DataError: an unknown suffix; the known ones are listed.
    """
    if Path(path).is_dir():
        raise DataError(f"{path} is a directory; name a file in it.")
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = "; ".join(f"{key} ({entry.name})" for key, entry in FORMATS.items())
        hint = did_you_mean(suffix, FORMATS)
        raise DataError(f"{path}: no format goes with the suffix {suffix!r}. Known: {known}. {hint}".rstrip())
    return FORMATS[suffix]


def read_jets(path: str | Path) -> JetArrays:
    """Reads and validates a file of jets, whatever its format.

    Raises:
        DataError: unknown suffix, no such file, a file that is not what its suffix says, jets that are not valid.
    """
    return format_of(path).read(path).validate(str(path))


def write_jets(path: str | Path, jets: JetArrays) -> None:
    """Writes a file of jets in the format of its suffix; the file appears whole or not at all."""
    format_of(path).write(path, jets)
