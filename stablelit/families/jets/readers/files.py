"""Opening and replacing files, with messages a user can act on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stablelit.errors import DataError, did_you_mean


def existing_file(path: str | Path) -> Path:
    """`path`, if it is a file.

    Raises:
        DataError: nothing there (near names are given), a directory, an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a directory; allowed: one file of jets. Name a file inside it.")
    if not path.exists():
        near = did_you_mean(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        where = (
            f"The directory {path.parent} has no such file."
            if path.parent.is_dir()
            else f"There is no directory {path.parent}."
        )
        raise DataError(f"{path}: no such file. {where} {near}".rstrip())
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    return path


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
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
