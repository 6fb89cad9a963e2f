"""The bytes of a file in blocks, whether it is compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from stablelit.data.files import existing_file
from stablelit.errors import DataError

_OPENED_BY: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
_REFUSED = {
    b"\x28\xb5\x2f\xfd": "is compressed with zstd. Allowed: plain, gzip, bzip2 or xz. Unpack it first: zstd -d FILE.",
    b"PK\x03\x04": "is a zip archive. Allowed: plain, gzip, bzip2 or xz. Unpack it first: unzip FILE.",
    b"\xff\xfe": "is text in UTF-16. Allowed: ASCII or UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 FILE.",
    b"\xfe\xff": "is text in UTF-16. Allowed: ASCII or UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 FILE.",
}


class ByteStream:
    """A file's bytes in order, unpacked where it is packed: its first bytes say so, whatever its name is.

    Args:
        path: of the file.

    Attributes:
        compression: "none", "gzip", "bzip2" or "xz".

    Raises:
        DataError: no such file, an empty one, one of a kind that cannot be unpacked.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = existing_file(path, "FASTA files", "*.fasta")
        with self.path.open("rb") as file:
            head = file.read(8)
        for magic, why in _REFUSED.items():
            if head.startswith(magic):
                raise DataError(f"{self.path}: {why}")
        self.compression, self._open = next(
            (kind for magic, kind in _OPENED_BY.items() if head.startswith(magic)), ("none", open)
        )

    def blocks(self, size: int, skip: int, where: Callable[[], str]) -> Iterator[bytes]:
        """Blocks of `size` bytes, the last one shorter.

        Args:
            size: of a block.
            skip: bytes (unpacked) to leave out at the beginning; packed ones are read nevertheless.
            where: says how far the reader has come, for messages.

        Raises:
            DataError: the file is cut short or damaged.
        """
        try:
            with self._opened() as file:
                self._skip(file, skip)
                while block := file.read(size):
                    yield block
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            cut = isinstance(error, EOFError)
            raise DataError(
                f"{self.path}: the {self.compression} file is {'cut short' if cut else 'damaged'} behind {where()} "
                f"({error}). Copy or download it again."
            ) from error

    def _opened(self) -> IO[bytes]:
        opened: IO[bytes] = self._open(self.path, "rb")
        return opened

    def _skip(self, file: IO[bytes], skip: int) -> None:
        if self.compression == "none":
            file.seek(skip)
            return
        while skip > 0:
            passed = len(file.read(min(skip, 1 << 22)))
            if not passed:
                return
            skip -= passed
