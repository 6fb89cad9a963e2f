"""How much of the memory a file may ask for, held against what it is before anything is set aside.

A few kilobytes can stand for a terabyte: a header that claims a shape, numbers that are compressed to a thousandth,
or a view with stride 0. What a file unpacks to is known from its headers; it is looked at there.
"""

from __future__ import annotations

import os
from pathlib import Path

from stablelit.errors import DataError

ALWAYS_ALLOWED_BYTES = 256 * 2**20
"""What any file may unpack to, however small it is."""
MOST_TIMES_ITS_SIZE = 200
"""Beyond that, how much larger than on the disk. Deflate reaches 1,032 with zeros alone, real data about 20."""
_SHARE_OF_MEMORY = 0.9


def memory_bytes() -> int:
    """The memory of this machine, or of the container where that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return min(physical, int(text))
    return physical


def check_unpacked(place: str | Path, unpacked: int, stored: int, what: str, remedy: str) -> None:
    """Refuses what would fill the memory, or is far larger than the file it comes from.

    Args:
        place: file, and where in it.
        unpacked: bytes that it takes in memory.
        stored: bytes that it takes on the disk.
        what: it is, for the message: "the array 'mask'".
        remedy: how an honest file gets round it.

    Raises:
        DataError: it does not fit into the memory, or is more than `ALWAYS_ALLOWED_BYTES` and more than
            `MOST_TIMES_ITS_SIZE` times what is stored.
    """
    if unpacked > (most := int(_SHARE_OF_MEMORY * memory_bytes())):
        raise DataError(
            f"{place}: {what} takes {in_words(unpacked)}. Allowed: {in_words(most)}, which is what this machine has "
            f"memory for. {remedy}"
        )
    if unpacked > ALWAYS_ALLOWED_BYTES and unpacked > MOST_TIMES_ITS_SIZE * stored:
        raise DataError(
            f"{place}: {what} takes {in_words(unpacked)}, unpacked from {in_words(stored)}. Allowed: "
            f"{in_words(ALWAYS_ALLOWED_BYTES)}, or {MOST_TIMES_ITS_SIZE} times what is stored, so that no small file "
            f"can fill the memory. {remedy}"
        )


def in_words(n_bytes: int) -> str:
    """A number of bytes, for messages.

    >>> in_words(300), in_words(3 * 2**20), in_words(10**30)
    ('300 B', '3.0 MiB', '9.1e+17 TiB')
    """
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB" if size < 1e6 else f"{size:.2g} TiB"
