"""Parquet files: one row a row, a null where nothing was observed. Only the columns that are asked for are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file
from stablelit.data.limits import check_unpacked
from stablelit.errors import DataError, missing_extra
from stablelit.families.causal.panel import Floats
from stablelit.families.causal.readers.table import Request, Table, no_number, numbers_of

# the row numbers that pandas writes
_INDEX = "__index_level_0__"


def read_parquet(path: Path, request: Request) -> Table:
    """Reads a parquet file.

    Raises:
        DataError: no such file, a directory, not parquet, truncated, no rows, a column that is no numbers (the first
            cell that is none is named), what `Request.chosen` refuses.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Reading parquet files") from error
    path = existing_file(path, "tables", "*.parquet")
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            notes = []
            if _INDEX in found and _INDEX not in (*request.keys, *(request.columns or ())):
                found = [name for name in found if name != _INDEX]
                notes.append(f"the row index of pandas ({_INDEX}) is left out; name it as time_column if it is time")
            chosen = request.chosen(found, str(path))
            if file.metadata.num_rows == 0:
                raise DataError(f"{path}: has no row.")
            unpacked = 8 * file.metadata.num_rows * (len(chosen) + len(request.keys))
            check_unpacked(path, unpacked, path.stat().st_size, "the table", "Name fewer columns, or cut its rows.")
            table = file.read(columns=[*chosen, *dict.fromkeys(request.keys)])
            values = [_numbers(table.column(name), path, name, request) for name in chosen]
            keys = {name: _as_it_is(table.column(name)) for name in request.keys}
    # UnicodeDecodeError: a damaged name of a column
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet ({error}). It is another format, or the copy or download was "
            f"interrupted ({path.stat().st_size} bytes are there): fetch it again and compare its size."
        ) from error
    return Table(str(path), chosen, np.stack(values, axis=1), keys, notes=tuple(notes))


def _numbers(column: Any, path: Path, name: str, request: Request) -> Floats:
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = column.type
    if kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_decimal(kind):
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    cells = column.to_pylist()
    numbers, wrong = numbers_of(cells, request.not_observed)
    if wrong is not None:
        raise no_number(f"{path} (of type {kind})", f"row {wrong}", name, cells[wrong])
    return numbers


def _as_it_is(column: Any) -> NDArray[Any]:
    import pyarrow.types as kinds

    if kinds.is_timestamp(column.type) or kinds.is_date(column.type):
        return np.asarray(column.to_numpy()).astype("datetime64[us]")
    if kinds.is_floating(column.type) or kinds.is_integer(column.type):
        return np.asarray(column.to_numpy())
    return np.array(column.to_pylist(), dtype=object)
