"""Parquet files with the columns of `jetclass_columns`: JetClass-II, and top-landscape and quark-gluon in its form.

Only the columns that are used are read, some thousands of rows at a time: memory does not grow with the file. Lists may
be lists, large lists or of fixed size; a missing list is a jet without particles, a missing number inside is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stablelit.data.limits import check_unpacked
from stablelit.data.parquet_footer import count_values
from stablelit.errors import DataError, missing_extra
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import PIECE, existing_file
from stablelit.families.jets.readers.jetclass_columns import JetClassColumns


def read_jetclass_parquet(path: Path) -> Iterator[JetArrays]:
    """The jets of a parquet file, relative to their axis, some thousands at a time.

    Raises:
        DataError: no such file, a directory, not parquet, truncated, no such columns (near names are given), columns
            that are no lists or no numbers, what `JetClassColumns.jets` refuses.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Reading parquet files") from error
    path = existing_file(path)
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            columns = JetClassColumns.among(found, str(path))
            _check_lists(path, file.schema_arrow, columns)
            if file.metadata.num_rows == 0:
                raise DataError(f"{path}: no jets (the file has no rows).")
            _check_size(path)
            start = 0
            for batch in file.iter_batches(batch_size=PIECE, columns=columns.names):
                yield _jets(path, pa.Table.from_batches([batch]), columns, start)
                start += len(batch)
    # UnicodeDecodeError: a damaged name of a column
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet ({error}). It is another format, or the copy or download was "
            f"interrupted ({path.stat().st_size} bytes are there): fetch it again and compare its size."
        ) from error


def _check_size(path: Path) -> None:
    """Numbers that repeat are stored once: what they unpack to is told by the file's own count of them."""
    unpacked = 8 * count_values(path)
    check_unpacked(path, unpacked, path.stat().st_size, "the table", "Write it again with fewer rows a file.")


def _check_lists(path: Path, schema: Any, columns: JetClassColumns) -> None:
    import pyarrow.types as kinds

    for name in columns.particles:
        kind = schema.field(name).type
        is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
        if not is_list or not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
            raise DataError(f"{path}: {name} is of type {kind}. Allowed: lists of numbers, one number a particle.")


def _jets(path: Path, table: Any, columns: JetClassColumns, start: int) -> JetArrays:
    import pyarrow.compute as pc

    counts, particles, scalars = {}, {}, {}
    for name in columns.names:
        column = table.column(name).combine_chunks()
        if name in columns.particles:
            counts[name] = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            particles[name] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        else:
            scalars[name] = column.to_numpy(zero_copy_only=False)
    # what is no number arrives as objects
    scalars = {name: np.asarray(values) for name, values in scalars.items()}
    return columns.jets(counts, particles, scalars, str(path), start)
