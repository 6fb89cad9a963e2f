"""Arrays and tensors from files that somebody else has made: data alone, and no more than the file can hold.

`numpy.load` sets aside what a header claims before it looks whether the file has it, and unpacks without a limit;
`torch.load(weights_only=True)` builds views that stand for more than there is. Here headers are read first.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stablelit.data.limits import check_unpacked
from stablelit.errors import DataError, StablelitError

_STORE_PLAIN = "If it is what you mean to load, store it without compression (numpy.savez)."
_CUT_SHORT = "Copy or download it again."
# what zipfile, zlib, lzma and numpy's parser of headers raise of damaged bytes
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, struct.error, NotImplementedError, RuntimeError),
    *(AttributeError, KeyError, TypeError, IndexError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError),
)


@contextmanager
def told_of_npz(path: Path) -> Iterator[None]:
    """Whatever numpy raises of a file of arrays inside the block is told as what is wrong with the file.

    Raises:
        DataError: not a file of numpy's, damaged, arrays of Python objects.
    """
    kind = path.suffix or "a numpy file"
    try:
        yield
    except StablelitError:
        raise
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read as {kind} ({error}). It is damaged or another format.") from error
    except ValueError as error:
        raise DataError(
            f"{path}: has arrays of Python objects or is no {kind} file ({error}). Allowed: plain numbers."
        ) from error
    except Exception as error:
        # lzma has an error of its own, and is not there in every Python
        if type(error).__module__ not in ("lzma", "_lzma"):
            raise
        raise DataError(f"{path}: cannot be read as {kind} ({error}). It is damaged or another format.") from error


class Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of an open ``.npz``, each read and checked when it is asked for.

    Attributes:
        files: their names.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.files = list(self._members)

    def __getitem__(self, name: str) -> NDArray[Any]:
        info = self._members[name]
        what, place = f"the array {name!r}", f"{self._path}"
        with self._archive.open(info) as file:
            shape, dtype = _header(file, place, what)
            _check_room(place, what, shape, dtype, info.file_size)
            size = math.prod(shape) * dtype.itemsize
            check_unpacked(place, size, info.compress_size, what, _STORE_PLAIN)
        with self._archive.open(info) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        _check_text(place, what, array)
        return array

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an array, without reading it."""
        with self._archive.open(self._members[name]) as file:
            return _header(file, str(self._path), f"the array {name!r}")[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def mapped_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy``, of which what is not read stays on the disk.

    Raises:
        DataError: another format, damaged, cut short, Python objects, text.
    """
    with told_of_npz(path):
        with path.open("rb") as file:
            shape, dtype = _header(file, str(path), "the array")
        _check_room(str(path), "the array", shape, dtype, path.stat().st_size)
        if dtype.kind not in "biuf":
            raise DataError(f"{path}: holds {dtype}. Allowed: numbers.")
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        return array


def mapped_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, likewise.

    Raises:
        DataError: it is empty.
    """
    with told_of_npz(path):
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)


def begins_as_array(path: Path) -> bool:
    """Whether a file is one array of numpy's, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX


@contextmanager
def opened_arrays(path: Path) -> Iterator[Arrays]:
    """An open ``.npz``; what goes wrong inside the block is told as what is wrong with the file.

    Raises:
        DataError: no npz file, damaged, arrays of Python objects, an array that is larger than what the file holds, or
            than `check_unpacked` allows.
    """
    with told_of_npz(path):
        if begins_as_array(path):
            raise DataError(f"{path}: holds one array without a name. Allowed: several with names; call it .npy.")
        with zipfile.ZipFile(path) as archive:
            yield Arrays(path, archive)


def loaded_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy``.

    Raises:
        DataError: another format, damaged, cut short, Python objects, more than the memory holds.
    """
    with told_of_npz(path), path.open("rb") as file:
        if zipfile.is_zipfile(path):
            raise DataError(f"{path}: holds several arrays. Allowed: one; call such a file .npz.")
        shape, dtype = _header(file, str(path), "the array")
        stored = path.stat().st_size
        _check_room(str(path), "the array", shape, dtype, stored)
        check_unpacked(path, math.prod(shape) * dtype.itemsize, stored, "the array", _CUT_SHORT)
        file.seek(0)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        _check_text(str(path), "the array", array)
        return array


def _header(file: IO[bytes], place: str, what: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    # 3.0 differs from 2.0 in the encoding of names alone
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: {what} has a header that is no text ({error}).") from error
    if dtype.hasobject:
        raise DataError(f"{place}: {what} holds Python objects (a pickle can run code). Allowed: plain numbers.")
    return tuple(int(n) for n in shape), dtype


def _check_room(place: str, what: str, shape: tuple[int, ...], dtype: np.dtype[Any], stored: int) -> None:
    # types of no width ("<U0") would let any number of elements stand for nothing
    if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.itemsize, 1) > stored:
        raise DataError(
            f"{place}: {what} claims the shape {shape} of {dtype}, and there are {stored} bytes. The file is damaged "
            f"or cut short. {_CUT_SHORT}"
        )


def _check_text(place: str, what: str, array: NDArray[Any]) -> None:
    """Text of numbers that are no characters cannot be told, and ends in an error of Python's own insides."""
    for name in array.dtype.names or ():
        _check_text(place, f"{what}, field {name!r},", array[name])
    if array.dtype.kind != "U" or not array.size:
        return
    codes = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).view(np.uint32)
    if bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any()):
        raise DataError(
            f"{place}: {what} has text with characters that do not exist. The file is damaged. {_CUT_SHORT}"
        )
