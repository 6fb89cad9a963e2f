"""Arrays of numpy: .npy with one array, .npz with several. NaN is a cell that was not observed.

A .npy has an array (rows, columns), whose columns are called x0, x1, ..., or a structured array with names. Of a .npz
are read: the values, under `values`, `X` or `data`; `names` or `columns`; and, where they are there, `mask`, `time`,
`environment`, `environment_names`, `intervened` and `truth`, as in `SensorPanel`. `write_panel` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file, replacing
from stablelit.data.safe_load import loaded_array, opened_arrays
from stablelit.errors import DataError
from stablelit.families.causal.panel import Floats, SensorPanel
from stablelit.families.causal.readers.table import Request, Table

_VALUES, _NAMES = ("values", "X", "data"), ("names", "columns")
_GIVEN = ("mask", "time", "environment", "environment_names", "intervened", "truth")


def read_npy(path: Path, request: Request) -> Table:
    """Reads a .npy.

    Raises:
        DataError: no such file, a directory, damaged, another format, Python objects, not (rows, columns), what
            `Request.chosen` refuses.
    """
    path = existing_file(path, "arrays", "*.npy")
    array = loaded_array(path)
    if array.dtype.names is None:
        names = tuple(f"x{i}" for i in range(array.shape[-1])) if array.ndim == 2 else ()
        return _table(path, array, names, request, (f"its columns are called x0 to x{len(names) - 1}",))
    fields: dict[str, NDArray[Any]] = {name: array[name] for name in array.dtype.names}
    chosen = request.chosen(list(fields), str(path))
    values = np.stack([_numeric(path, name, fields[name], 1) for name in chosen], axis=1)
    return Table(str(path), chosen, values, {name: fields[name] for name in request.keys})


def read_npz(path: Path, request: Request) -> Table:
    """Reads a .npz.

    Raises:
        DataError: as `read_npy`; no array of values, names that do not go with them.
    """
    path = existing_file(path, "arrays", "*.npz")
    with opened_arrays(path) as file:
        found = sorted(file.files)
        key = next((name for name in _VALUES if name in found), None)
        if key is None:
            raise DataError(
                f"{path}: has no array of values. Found: {', '.join(found) or 'nothing'}. Allowed: one of "
                f"{', '.join(_VALUES)}, of shape (rows, columns)."
            )
        values = file[key]
        naming = next((name for name in _NAMES if name in found), None)
        given = {name: file[name] for name in _GIVEN if name in found}
        names = tuple(f"x{i}" for i in range(values.shape[-1])) if values.ndim == 2 else ()
        names = names if naming is None else tuple(str(name) for name in np.atleast_1d(file[naming]))
    if values.ndim == 2 and len(names) != values.shape[1]:
        raise DataError(
            f"{path}: {naming} has {len(names)} names for {values.shape[1]} columns. Allowed: one for each."
        )
    return _table(path, values, names, request, given=given, named=naming is not None)


def write_panel(path: str | Path, panel: SensorPanel) -> None:
    """Writes a panel as .npz, to be read by `read_npz`; the file appears whole or not at all.

    Raises:
        DataError: another suffix.
    """
    if Path(path).suffix.lower() != ".npz":
        raise DataError(f"{path}: panels are written as .npz. Allowed: a name that ends so.")
    arrays = {name: getattr(panel, name) for name in ("values", *_GIVEN)}
    if not panel.environment_names:
        del arrays["environment_names"]
    with replacing(path) as temporary:
        np.savez(temporary, names=np.array(panel.names), **{k: v for k, v in arrays.items() if v is not None})


def _table(
    path: Path,
    array: NDArray[Any],
    names: tuple[str, ...],
    request: Request,
    notes: tuple[str, ...] = (),
    given: dict[str, Any] | None = None,
    named: bool = False,
) -> Table:
    values = _numeric(path, "the array", array, 2)
    chosen = request.chosen(list(names), str(path))
    at = [names.index(name) for name in chosen]
    keys = {name: values[:, names.index(name)] for name in request.keys}
    given = dict(given or {})
    for name, axes in (("mask", (1,)), ("intervened", (1,)), ("truth", (0, 1))):
        if name in given:
            given[name] = _selected(path, name, given[name], len(names), at, axes)
    return Table(str(path), chosen, values[:, at], keys, notes=notes, named=named, given=given)


def _selected(
    path: Path, what: str, array: NDArray[Any], columns: int, at: list[int], axes: tuple[int, ...]
) -> NDArray[Any]:
    if array.ndim != 2 or any(array.shape[axis] != columns for axis in axes):
        raise DataError(f"{path}: {what} has shape {array.shape}, but there are {columns} columns of values.")
    for axis in axes:
        array = np.take(array, at, axis=axis)
    return array


def _numeric(path: Path, what: str, array: NDArray[Any], dimensions: int) -> Floats:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: {what} has values of type {array.dtype}. Allowed: numbers.")
    if array.ndim != dimensions:
        raise DataError(f"{path}: {what} has shape {array.shape}. Allowed: (rows, columns).")
    if not len(array):
        raise DataError(f"{path}: has no row.")
    return array.astype(np.float64)
