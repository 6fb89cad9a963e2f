"""Data sets of an HDF5 file, taken only where the file holds them itself, and holds as much as it claims.

HDF5 has links into other files, data sets that lie in any file of the disk (external storage, `/etc/passwd` as numbers)
or are put together from others (virtual), and shapes of any size that cost nothing until they are read.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

from stablelit.data.limits import check_unpacked
from stablelit.errors import DataError
from stablelit.families.jets.readers.files import imported_h5py

MOST_ROW_BYTES = 1 << 18
"""Of a jet: 1,000 particles of four doubles have 32 kB."""
MOST_ATTRIBUTE_BYTES = 1 << 20
_BYTES_AT_A_TIME = 1 << 27
_HEAP = b"GCOL\x01\0\0\0"
_REMEDY = "Copy or download it again; if it is meant so, write the numbers into the file itself."


def is_there(group: Any, name: str) -> bool:
    """Whether a group has something of this name in the file itself, and not by a link into another file."""
    h5py = imported_h5py()
    try:
        link = group.get(name, getlink=True)
    except (KeyError, ValueError, RuntimeError):
        return False
    if isinstance(link, h5py.ExternalLink):
        return False
    try:
        # a soft link may lead to an external one
        return name in group and _file_of(group[name]) == _file_of(group)
    except (KeyError, ValueError, RuntimeError, OSError):
        return False


def data_set(path: Path, group: Any, name: str) -> Any:
    """The data set of this name, whose numbers the file holds.

    Args:
        path: of the file, for messages.
        group: the file, or a group of it.
        name: of the data set, which is there.

    Raises:
        DataError: it is no data set, lies in another file, is put together from others, or claims more than it has.
    """
    h5py = imported_h5py()
    found = group[name]
    where = f"{path}: {name!r}"
    if not isinstance(found, h5py.Dataset) or not isinstance(found.shape, tuple):
        raise DataError(f"{where} is no data set of numbers.")
    plan = found.id.get_create_plist()
    if plan.get_external_count() or found.is_virtual or _file_of(found) != _file_of(group):
        raise DataError(f"{where} lies in another file. Allowed: numbers in the file itself. {_REMEDY}")
    try:
        itemsize = found.dtype.itemsize
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has values of a type that numpy lacks ({error}). Allowed: numbers.") from error
    row = math.prod(found.shape[1:]) * itemsize
    if row > MOST_ROW_BYTES:
        raise DataError(
            f"{where} has the shape {found.shape}, {row} bytes a row. Allowed: {MOST_ROW_BYTES}, of which a jet has "
            f"some thousand. {_REMEDY}"
        )
    check_unpacked(
        path, math.prod(found.shape) * itemsize, found.id.get_storage_size(), f"the data set {name!r}", _REMEDY
    )
    return found


def attribute(path: Path, thing: Any, name: str) -> Any:
    """An attribute that is there.

    Raises:
        DataError: it is longer than any name, or its text lies in a heap that HDF5 would search for ever.
    """
    h5py = imported_h5py()
    stored = thing.attrs.get_id(name)
    if stored.get_storage_size() > MOST_ATTRIBUTE_BYTES:
        raise DataError(f"{path}: the attribute {name!r} is longer than {MOST_ATTRIBUTE_BYTES} bytes. {_REMEDY}")
    kind = stored.get_type()
    if kind.detect_class(h5py.h5t.VLEN) or (kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()):
        _check_heaps(path)
    return thing.attrs[name]


def _check_heaps(path: Path) -> None:
    """Refuses heaps of texts in which an object has no length: HDF5 goes round in a circle over it, in C.

    Source: HDF5 File Format Specification 3.0, III.E, Global Heap.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        heap = data.find(_HEAP)
        while heap >= 0:
            size = int.from_bytes(data[heap + 8 : heap + 16], "little")
            end, at = min(heap + size, len(data)), heap + 16
            while at + 16 <= end:
                length = int.from_bytes(data[at + 8 : at + 16], "little")
                is_free = data[at : at + 2] == b"\0\0"
                if is_free and length < 16:
                    raise DataError(f"{path}: a heap of texts is damaged at byte {at}. {_REMEDY}")
                # free space counts its own head, an object does not, and is padded
                at += length if is_free else 16 + -(-length // 8) * 8
            heap = data.find(_HEAP, heap + 4)


def rows_at_a_time(*found: Any, most: int) -> int:
    """How many rows of these data sets are read together: `most`, or fewer of long ones."""
    row = sum(math.prod(one.shape[1:]) * one.dtype.itemsize for one in found)
    return max(1, min(most, int(_BYTES_AT_A_TIME // max(row, 1))))


def _file_of(thing: Any) -> str:
    return str(thing.file.filename)
