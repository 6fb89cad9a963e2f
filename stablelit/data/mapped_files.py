"""Files that are mapped into memory, and what becomes of a process whose file is cut short meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stablelit.errors import DataError


class MappedFiles:
    """Watches files that are read through a memory map.

    Who reads a page that the file no longer has is killed by the kernel (SIGBUS), without a word. So the sizes are
    asked for before each reading, by descriptors that stay open: a file that was replaced or deleted is still whole
    for those who have it open, and only one that was cut or written over in place is not. What is cut in the very
    moment between the question and the reading still kills.

    Args:
        paths: of the files, mapped already.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: list[tuple[Path, int, int]] = []
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            self._files.append((path, descriptor, os.fstat(descriptor).st_size))

    def require_whole(self) -> None:
        """Complains of a file that has become shorter.

        Raises:
            DataError: with both sizes.
        """
        for path, descriptor, size in self._files:
            now = os.fstat(descriptor).st_size
            if now < size:
                raise DataError(
                    f"{path}: was cut short while it was read: it had {size} bytes and has {now}. Something writes to "
                    f"it. Put it back (prepare it again), keep others from it, and go on with resume=."
                )

    def __del__(self) -> None:
        for _, descriptor, _ in self._files:
            try:
                os.close(descriptor)
            except OSError:
                continue
