"""How many values a parquet file says that it holds, read from its footer without pyarrow.

pyarrow tells it too, by `metadata.row_group(k).column(c)`. But an exception that C++ throws there is caught by nobody
and ends the process with SIGABRT: histograms of sizes that do not fit their column do it (pyarrow 26). A footer is a
structure of Thrift's compact protocol: fields with a number and a type, each of which can be passed over unread.

Source: parquet-format's `parquet.thrift` (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData), and
`thrift-compact-protocol.md` of Apache Thrift.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stablelit.errors import DataError

_MAGIC = b"PAR1"
LARGEST_FOOTER_BYTES = 1 << 26
_DEEPEST = 32
# of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData
_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES = 4, 1, 3, 5
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)


def count_values(path: Path) -> int:
    """The values of all columns of all row groups, nulls and repeated ones too, as the footer has them.

    Raises:
        DataError: no parquet file, or a footer that is cut off, is larger than `LARGEST_FOOTER_BYTES`, or is none.
    """
    footer = _Footer(_footer_of(path))
    total = 0
    try:
        for group in footer.structures(_ROW_GROUPS, is_list=True):
            for column in footer.structures(_COLUMNS, is_list=True, depth=group):
                for meta_data in footer.structures(_META_DATA, is_list=False, depth=column):
                    total += max(0, footer.integer(_NUM_VALUES, meta_data))
    except (IndexError, ValueError) as error:
        raise DataError(f"{path}: its parquet footer cannot be read ({error}). Fetch the file again.") from error
    return total


def _footer_of(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if len(end) < 8 or end[4:] != _MAGIC or length + 8 > size:
            raise DataError(f"{path}: has no parquet footer at its end ({size} bytes are there). Fetch it again.")
        if length > LARGEST_FOOTER_BYTES:
            raise DataError(f"{path}: has a footer of {length} bytes. Allowed: {LARGEST_FOOTER_BYTES}.")
        file.seek(size - 8 - length)
        return file.read(length)


class _Footer:
    """A place in the bytes, which goes on as they are read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def structures(self, wanted: int, is_list: bool, depth: int = 0) -> Iterator[int]:
        """Stops at each structure of the field of this number, alone or in a list; whoever iterates reads it whole.

        Yields its depth. All other fields are passed over.
        """
        for number, kind in self._fields():
            if number != wanted or kind != (_LIST if is_list else _STRUCT):
                self._pass(kind, depth + 1)
            elif not is_list:
                yield depth + 1
            else:
                element, count = self._list_head()
                if element != _STRUCT:
                    raise ValueError(f"field {wanted} lists elements of type {element}")
                for _ in range(count):
                    yield depth + 1

    def integer(self, wanted: int, depth: int) -> int:
        """The last integer of this number in the structure, which is read whole; 0 where there is none."""
        value = 0
        for number, kind in self._fields():
            if number == wanted and kind in _INTEGERS:
                value = self._signed()
            else:
                self._pass(kind, depth + 1)
        return value

    def _fields(self) -> Iterator[tuple[int, int]]:
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            yield number, head & 0x0F

    def _pass(self, kind: int, depth: int, in_list: bool = False) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} structures in each other")
        if kind in (_TRUE, _FALSE):
            self._at += in_list  # of a field the type is the value
        elif kind in (_BYTE, _DOUBLE):
            self._at += 1 if kind == _BYTE else 8
        elif kind in _INTEGERS:
            self._unsigned()
        elif kind == _BINARY:
            length = self._unsigned()
            self._at += length
        elif kind in (_LIST, _SET):
            element, count = self._list_head()
            for _ in range(count):
                self._pass(element, depth + 1, in_list=True)
        elif kind == _MAP:
            count = self._unsigned()
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._pass(kinds >> 4, depth + 1, in_list=True)
                self._pass(kinds & 0x0F, depth + 1, in_list=True)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._pass(inner, depth + 1)
        else:
            raise ValueError(f"type {kind} at byte {self._at}")
        if self._at > len(self._data):
            raise ValueError("it ends in the middle of a field")

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return head & 0x0F, self._unsigned() if head >> 4 == 15 else head >> 4

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("an integer of more than 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
