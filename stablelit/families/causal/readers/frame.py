"""Data frames in memory, of pandas or whatever has `columns` and gives a column by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.causal.readers.table import Request, Table, no_number, numbers_of

_SOURCE = "data frame"


def read_frame(frame: Any, request: Request) -> Table:
    """Reads a data frame; its index can be a key under its own name, or as "index".

    Raises:
        DataError: no data frame, no rows, a column that is no numbers (the first cell that is none is named), what
            `Request.chosen` refuses.
    """
    if not (hasattr(frame, "columns") and hasattr(frame, "__getitem__")):
        raise DataError(f"{_SOURCE}: got a {type(frame).__name__}. Allowed: what has columns and gives them by name.")
    found = [str(name) for name in frame.columns]
    original = dict(zip(found, frame.columns, strict=True))
    index = getattr(frame, "index", None)
    index_name = str(getattr(index, "name", None) or "index")
    of_index = [name for name in request.keys if name == index_name and name not in found and index is not None]
    plain = Request(request.columns, tuple(n for n in request.keys if n not in of_index), request.not_observed)
    chosen = plain.chosen(found, _SOURCE)
    values = []
    for name in chosen:
        cells = _cells(frame[original[name]])
        if cells.dtype.kind in "fiub":
            values.append(cells.astype(np.float64))
            continue
        numbers, wrong = numbers_of(cells.tolist(), request.not_observed)
        if wrong is not None:
            raise no_number(f"{_SOURCE} (of type {cells.dtype})", f"row {wrong}", name, cells[wrong])
        values.append(numbers)
    if not values or not len(values[0]):
        raise DataError(f"{_SOURCE}: has no {'row' if values else 'column'}.")
    keys = {name: _cells(frame[original[name]]) for name in plain.keys}
    keys |= {name: _cells(index) for name in of_index}
    return Table(_SOURCE, chosen, np.stack(values, axis=1), keys)


def _cells(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
