"""Finding, opening and replacing files of data, with messages a user can act on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stablelit.errors import DataError, did_you_mean


def existing_file(path: str | Path, holds: str, pattern: str) -> Path:
    """`path`, if it is a file.

    Args:
        path: of the file.
        holds: what is allowed, for messages: "files of jets".
        pattern: by which such files are named, for messages: ``*.h5``.

    Raises:
        DataError: nothing there (near names are given), a directory, a device or a pipe, an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(
            f"{path}: is a directory; allowed: {holds}. Name a file in it, or '{path}/{pattern}' and so on."
        )
    if not path.exists():
        near = did_you_mean(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        where = (
            f"The directory {path.parent} has no such file."
            if path.parent.is_dir()
            else f"There is no directory {path.parent}."
        )
        raise DataError(f"{path}: no such file. {where} {near}".rstrip())
    if not path.is_file():
        # reading a pipe waits for somebody to write, and a device may never end
        raise DataError(f"{path}: is a device or a pipe; allowed: {holds}. Write what comes from it to a file first.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    return path


def file_identity(path: Path) -> dict[str, Any]:
    """What file it is: its path, its size and its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"source": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes files that only their owner can read
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, name):
            # a write that fails does not know whose it is
            error.filename = str(path)
        raise
