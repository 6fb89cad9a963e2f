"""Opening parquet files, with messages a user can act on; pyarrow is imported when a file is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file
from stablelit.data.limits import MOST_TIMES_ITS_SIZE, check_unpacked
from stablelit.errors import DataError, missing_extra


def imported_arrow() -> Any:
    """The module pyarrow with its parquet, an optional dependency."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Reading or writing events in parquet files") from error
    return pyarrow


@contextmanager
def opened_parquet(path: Path, holds: str) -> Iterator[Any]:
    """An open `pyarrow.parquet.ParquetFile`; what goes wrong inside is told as what is wrong with the file.

    Args:
        path: of the file.
        holds: what should be in it, for messages.

    Raises:
        DataError: no such file, a directory, empty, truncated, not parquet.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = imported_arrow()
    path = existing_file(path, holds, "*.parquet")
    try:
        with arrow.parquet.ParquetFile(path) as file:
            unpacked = 8 * file.metadata.num_rows * file.metadata.num_columns
            # a table may be larger than the memory: of that of all events, only the wanted rows are read
            if unpacked > MOST_TIMES_ITS_SIZE * (size := path.stat().st_size):
                check_unpacked(path, unpacked, size, "the table", "Write it again in several files.")
            yield file
    # UnicodeDecodeError: a damaged name of a column
    except (arrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet ({error}). Allowed: {holds}. It is damaged or truncated "
            f"({path.stat().st_size} bytes are there): fetch it again and compare its size."
        ) from error


def numbers(column: Any, name: str, where: str) -> NDArray[Any]:
    """A column of a table of pyarrow's as numbers; a null is refused.

    Raises:
        DataError: not numbers (a list, text), or a null; the row is named.
    """
    import pyarrow.types as kinds

    kind = column.type
    if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
        raise DataError(f"{where}: column {name!r} holds {kind}. Allowed: one number a row. Is it another layout?")
    if column.null_count:
        row = int(np.argmax(np.asarray(column.is_null())))
        raise DataError(f"{where}: row {row}: {name} is missing ({column.null_count} are). Drop or fill such rows.")
    return np.asarray(column.to_numpy())
