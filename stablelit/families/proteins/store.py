"""Prepared sequences: a folder that is opened by memory map, whatever its size.

::

    meta.json       what they are: version, alphabet, policies, counts, residues, where they came from
    tokens.bin      residues of all sequences, one byte each
    offsets.npy     where each begins, int64, one more than there are sequences
    buckets.npy     of the split, uint16: BLAKE2b of the id modulo 10,000
    ids.bin         ids end to end, with id_offsets.npy, where they were kept

`python -m stablelit.prepare proteins path=FASTA output=FOLDER` writes it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.mapped_files import MappedFiles
from stablelit.data.safe_load import mapped_array, mapped_bytes
from stablelit.errors import DataError
from stablelit.families.proteins.alphabet import AMINO_ACIDS, PAD, UNKNOWN
from stablelit.families.proteins.sequences import Sequences
from stablelit.run_files import from_json

META = "meta.json"
_NEEDED, _WITH_IDS = ("tokens.bin", "offsets.npy", "buckets.npy"), ("ids.bin", "id_offsets.npy")
VERSION = 1
ALPHABET = {"residues": AMINO_ACIDS, "unknown": UNKNOWN, "pad": PAD}
_AT_ENDS = 1 << 20
_REMEDY = "Prepare the sequences again."


def is_store(path: str | Path) -> bool:
    """Whether a folder holds prepared sequences."""
    return (Path(path) / META).is_file()


class SequenceStore(Sequences):
    """A folder of prepared sequences.

    Args:
        path: of the folder.

    Attributes:
        meta: what ``meta.json`` says.

    Raises:
        DataError: no such folder; sequences of another version or alphabet; a file that is missing, cut short or
            another than was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.meta = _read_meta(self.path)
        for name, described in self.meta["files"].items():
            _check_file(self.path / name, described)
        tokens = mapped_bytes(self.path / "tokens.bin")
        offsets, buckets = self._array("offsets.npy"), self._array("buckets.npy")
        super().__init__(tokens, offsets, buckets, str(self.path))
        wanted = self.meta["n_sequences"], self.meta["n_residues"]
        if (len(self), len(tokens)) != wanted:
            raise DataError(
                f"{self.path / META}: names {wanted[0]} sequences of {wanted[1]} residues, but {len(self)} of "
                f"{len(tokens)} are there. {_REMEDY}"
            )
        self._mapped = MappedFiles(self.path / name for name in self.meta["files"])
        self._ids: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The residues of one sequence; a file that was cut short meanwhile is a `DataError`."""
        self._mapped.require_whole()
        return super().__getitem__(index)

    def lengths(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """As of all sequences; a file that was cut short meanwhile is a `DataError`."""
        self._mapped.require_whole()
        return super().lengths(rows)

    def windows(
        self, rows: NDArray[np.int64], first: NDArray[np.int64], length: NDArray[np.int64], width: int
    ) -> NDArray[np.uint8]:
        """As of all sequences; a file that was cut short meanwhile is a `DataError`."""
        self._mapped.require_whole()
        return super().windows(rows, first, length, width)

    def sequence_id(self, row: int) -> str:
        """The id of a sequence, the first word of its header.

        Raises:
            DataError: the ids were not kept.
        """
        if "ids.bin" not in self.meta["files"]:
            raise DataError(f"{self.path}: has no ids. Prepare the sequences with ids=true.")
        if self._ids is None:
            self._ids = mapped_bytes(self.path / "ids.bin"), self._id_offsets(len(self))
        if not 0 <= row < len(self):
            raise IndexError(f"{row} of {len(self)} sequences")
        self._mapped.require_whole()
        letters, offsets = self._ids
        return letters[int(offsets[row]) : int(offsets[row + 1])].tobytes().decode("utf-8", "replace")

    def identity(self) -> dict[str, Any]:
        """Also where the prepared sequences came from."""
        return {
            **super().identity(),
            "policies": self.meta["policies"],
            "tokens_sha256": self.meta["files"]["tokens.bin"]["sha256_of_ends"],
            "prepared_from": self.meta["source"],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker that is spawned opens the folder anew: pickled, the sequences would be copied whole
        return type(self), (self.path,)

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return mapped_array(self.path / name)
        except DataError as error:
            raise DataError(f"{error} {_REMEDY}") from error

    def _id_offsets(self, n: int) -> NDArray[np.int64]:
        offsets = self._array("id_offsets.npy")
        if offsets.shape != (n + 1,) or offsets.dtype.kind not in "iu":
            raise DataError(
                f"{self.path / 'id_offsets.npy'}: holds {offsets.shape} values of {offsets.dtype}. Allowed: ({n + 1},) "
                f"whole numbers. {_REMEDY}"
            )
        return offsets


def describe_file(path: Path) -> dict[str, Any]:
    """A file's size, and the SHA-256 of its first and last MB: cheap to check, and changed by whatever cuts it."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(_AT_ENDS))
        file.seek(max(size - _AT_ENDS, 0))
        digest.update(file.read(_AT_ENDS))
    return {"bytes": size, "sha256_of_ends": digest.hexdigest()}


def _check_file(path: Path, described: dict[str, Any]) -> None:
    if not path.is_file():
        raise DataError(f"{path}: is missing, though {META} names it. {_REMEDY}")
    if (size := path.stat().st_size) != described["bytes"]:
        cut = "cut short" if size < described["bytes"] else "too long"
        raise DataError(f"{path}: is {cut}: {size} bytes. Allowed: {described['bytes']}, as {META} says. {_REMEDY}")
    if describe_file(path) != described:
        raise DataError(f"{path}: is another file than was prepared (its first and last MB differ). {_REMEDY}")


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    if not path.is_file():
        raise DataError(
            f"{folder}: has no {META}. Allowed: a FASTA file, or a folder that `python -m stablelit.prepare proteins` "
            f"has written."
        )
    try:
        meta = dict(from_json(path.read_text(encoding="utf-8")))
        version, alphabet = meta["version"], meta["alphabet"]
        if version == VERSION:
            _ = int(meta["n_sequences"]), int(meta["n_residues"]), meta["policies"], meta["source"]
            _check_described(meta["files"])
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: does not describe prepared sequences ({error!r}). {_REMEDY}") from error
    if version != VERSION:
        raise DataError(f"{path}: is of version {version}. Allowed: {VERSION}. {_REMEDY}")
    if alphabet != ALPHABET:
        raise DataError(f"{path}: has the alphabet {alphabet}. Allowed: {ALPHABET}. {_REMEDY}")
    return meta


def _check_described(files: dict[str, Any]) -> None:
    """Refuses other files than a store has, such as one in another folder, and what does not describe one."""
    if missing := [name for name in _NEEDED if name not in files]:
        raise ValueError(f"describes no {missing[0]}")
    for name, described in files.items():
        if name not in (*_NEEDED, *_WITH_IDS):
            raise ValueError(f"names the file {name[:60]!r}, which no prepared sequences have")
        if not isinstance(described["bytes"], int) or not isinstance(described["sha256_of_ends"], str):
            raise ValueError(f"describes {name} by {described!r:.80}")
    if len(set(_WITH_IDS) & set(files)) == 1:
        raise ValueError("describes ids without their places")
