"""A database that somebody else has made, opened so that reading it is all that can happen.

A file of SQLite is a program too: a view or a generated column runs functions whenever it is read, a view may never
end, and pages that refer to each other make a few kilobytes stand for as many rows as there are atoms. So only tables
are read, of functions only COUNT runs, and what is computed is bounded by the size of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from stablelit.errors import DataError

_STEPS_BETWEEN = 100_000
# of SQLite's virtual machine. A row of ten columns takes some 50 of them and no less than 10 bytes; twenty times that
STEPS_A_BYTE, STEPS_ANYWAY = 100, 20_000_000
LONGEST_VALUE = 1 << 20
"""Bytes of one value, or of a definition of a table."""


@contextmanager
def opened_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A database, for reading alone.

    Raises:
        DataError: it cannot be read, is no database, would compute anything, or holds more than its size allows.
    """
    size = path.stat().st_size
    steps_left = STEPS_ANYWAY + STEPS_A_BYTE * size

    def is_over() -> bool:
        nonlocal steps_left
        steps_left -= _STEPS_BETWEEN
        return steps_left < 0

    try:
        # immutable would overlook a journal; a database that somebody else writes is left as it is
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            for setting in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
                database.execute(f"PRAGMA {setting}")
            if hasattr(database, "setlimit"):  # Python 3.11
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
                database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            database.set_authorizer(_permit)
            database.set_progress_handler(is_over, _STEPS_BETWEEN)
            yield database
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        if steps_left < 0:
            raise DataError(
                f"{path}: has more rows than {size} bytes can hold: its pages refer to each other in a circle. It is "
                f"damaged, or was made to fill the memory. Copy or download it again."
            ) from error
        raise DataError(
            f"{path}: cannot be read as an SQLite database ({error}). It is damaged, cut short ({size} bytes are "
            f"there), another format, or computes what it holds; allowed: tables of plain numbers."
        ) from error


def _permit(action: int, first: str | None, second: str | None, *_: object) -> int:
    is_allowed = (
        action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
        or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "count")
        # by it columns are named
        or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() == "table_info")
    )
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
