"""The files of sketches in a folder or in a zip, by their names in it; a zip is read where it lies, never unpacked."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stablelit.errors import DataError

# far above any drawing, far below what a hostile file would take of the memory
MOST_BYTES = 64 * 2**20
MOST_TEXT_BYTES = 4 * 2**20
"""Of a drawing that is text: a number is two characters in it, and sixty bytes once it is read."""
# what a damaged or foreign archive raises, in `zipfile` and in the decompressors; RuntimeError: encrypted
_DAMAGED = (OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error, struct.error)
# its directory and the headers of its members beside: a name that is no UTF-8, a place before the beginning
_NO_ARCHIVE = (*_DAMAGED, ValueError, OverflowError, IndexError, KeyError, MemoryError)
_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")


class Unreadable(Exception):
    """A file or a line that is not what it should be; the message says why."""


class SketchFiles:
    """The files of a folder, of a zip, or one file; hidden ones are not among them.

    Args:
        path: of the folder, the zip or the file.

    Raises:
        DataError: a damaged zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            self.names = sorted(_below(path))
        elif path.suffix.lower() == ".zip":
            try:
                self._zip = zipfile.ZipFile(path)
            except _NO_ARCHIVE as error:
                raise DataError(f"{path}: cannot be read as a zip ({error}). Copy or download it again.") from error
            self.names = sorted(i.filename for i in self._zip.infolist() if not i.is_dir() and _is_seen(i.filename))
        else:
            self.path, self.names = path.parent, [path.name]

    def __enter__(self) -> SketchFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def place(self, name: str) -> str:
        """Where a file lies, for messages; one of a zip as if the zip were a folder."""
        return str(self.path / name)

    def of(self, suffixes: Iterable[str]) -> list[str]:
        """The names that end so."""
        return [name for name in self.names if name.lower().endswith(tuple(suffixes))]

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file, open for reading.

        Raises:
            Unreadable: it cannot be opened, is damaged or encrypted, is no file but a pipe or a device.
        """
        if self._zip is None and not (self.path / name).is_file():
            # reading a pipe waits for somebody to write, and a device may never end
            raise Unreadable("no file, but a pipe, a device or a link to nothing")
        try:
            file = (self.path / name).open("rb") if self._zip is None else self._zip.open(name)
        except _NO_ARCHIVE as error:
            raise Unreadable(str(error) or type(error).__name__) from error
        try:
            with file:
                yield file
        except _DAMAGED as error:
            raise Unreadable(str(error) or type(error).__name__) from error
        except Exception as error:
            # lzma has an error of its own, and is not there in every Python
            if type(error).__module__ not in ("lzma", "_lzma"):
                raise
            raise Unreadable(str(error)) from error

    def read(self, name: str, most: int | None = None) -> bytes:
        """All of a file, of at most so many bytes; None is `MOST_BYTES`.

        Raises:
            Unreadable: as `opened`; it is empty, or larger than any drawing.
        """
        most = MOST_BYTES if most is None else most
        with self.opened(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise Unreadable(f"larger than {most // 2**20} MiB")
        if not data:
            raise Unreadable("empty (0 bytes)")
        return data


def of_folders(names: Iterable[str]) -> tuple[dict[str | None, list[str]], str]:
    """Files by the folder that they are in, which is their class; those in none have the class None.

    Folders that everything is in are no classes, nor are train/, val/ and test/ when all of them are at the top: these
    are joined, since splitting is done elsewhere.

    Returns:
        The names of the files of each class, and in words what was joined, and what has no class beside those that do.
    """
    paths = {name: name.split("/") for name in names}
    folders = {name: parts[:-1] for name, parts in paths.items()}
    while folders and all(len(f) > 1 for f in folders.values()) and len({f[0] for f in folders.values()}) == 1:
        folders = {name: folder[1:] for name, folder in folders.items()}
    tops = sorted({folder[0] for folder in folders.values() if folder})
    is_split = len(tops) > 1 and all(t.lower() in _PARTS for t in tops) and all(len(f) > 1 for f in folders.values())
    if is_split:
        folders = {name: folder[1:] for name, folder in folders.items()}
    classes: dict[str | None, list[str]] = {}
    for name, folder in folders.items():
        classes.setdefault("/".join(folder) or None, []).append(name)
    note = f"the folders {', '.join(tops)} are joined, and split anew" if is_split else ""
    if None in classes and len(classes) > 1:
        note = (
            f"{len(classes[None])} files lie beside the folders of classes, and have no class ({classes[None][0]}, ...)"
        )
    return classes, note


def _is_seen(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _below(folder: Path) -> Iterator[str]:
    # links are followed, since large data sets are often linked together, but never in a circle
    been = set()
    for here, inner, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in been:
            inner.clear()
            continue
        been.add(real)
        inner[:] = sorted(name for name in inner if _is_seen(name))
        at = Path(here).relative_to(folder)
        yield from ((at / name).as_posix() for name in names if _is_seen(name))
