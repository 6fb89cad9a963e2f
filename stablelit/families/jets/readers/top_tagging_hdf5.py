"""Tables that pandas wrote to HDF5, as the top-tagging reference data set has them: ``E_0, PX_0, PY_0, PZ_0, ...``.

One row a jet, four columns a particle (GeV, up to 200 particles, zeros behind the last), ``is_signal_new`` 1 for a top
and 0 for a light quark or gluon; other columns are left alone. Both of pandas' layouts are read by h5py alone:

- ``format="table"``: a compound data set ``<key>/table`` whose fields ``values_block_k`` hold the columns of one type;
  their names are the attribute ``values_block_k_kind``, a pickled list of strings; nothing else is unpickled.
- ``format="fixed"``: ``<key>/block<k>_values`` beside ``<key>/block<k>_items``.

Rows are read some thousands at a time.

Source: Kasieczka, Plehn, Thompson, Russell 2019, zenodo.org/records/2603256 (1.2 M + 400 k + 400 k jets, anti-kT 0.8,
550 < pT < 650 GeV).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.kinematics import RaggedJets
from stablelit.families.jets.readers.files import PIECE, opened_hdf5
from stablelit.families.jets.readers.hdf5_data import attribute, data_set, is_there, rows_at_a_time
from stablelit.families.jets.readers.jetnet_hdf5 import WANTED
from stablelit.families.jets.readers.pickled_names import unpickled_names

CLASSES = ("qcd", "top")
LABEL = "is_signal_new"
MOMENTUM = ("E", "PX", "PY", "PZ")
# pandas has one for each type
_MOST_BLOCKS = 64
_ENERGY = re.compile(r"^E_(\d+)$")


def is_pandas_hdf5(path: Path) -> bool:
    """Whether pandas wrote the file."""
    with opened_hdf5(path, WANTED) as file:
        return bool(_pandas_groups(file))


def read_top_tagging_hdf5(path: Path) -> Iterator[JetArrays]:
    """The jets of a table of four-momenta, relative to their axis, some thousands at a time.

    Raises:
        DataError: no such file, not HDF5, truncated, no such columns (near names are given), what `RaggedJets` refuses.
        MissingDependencyError: h5py is not installed.
    """
    with opened_hdf5(path, WANTED) as file:
        group = file[_one_group(path, file)]
        table = _blocks_of_table(path, group) if is_there(group, "table") else _fixed_blocks(path, group)
        momentum = _Columns(table, _momentum_names(path, table))
        label = _Columns(table, [LABEL]) if LABEL in table.names else None
        rows = table.rows_at_a_time
        for start in range(0, table.n_rows, rows):
            values = table.read(slice(start, start + rows))
            momenta = momentum.take(values).reshape(len(values[0]), -1, len(MOMENTUM))
            mask = (momenta != 0).any(axis=-1)
            energy, p_x, p_y, p_z = (momenta[..., i][mask] for i in range(len(MOMENTUM)))
            ordered = {"PX": p_x, "PY": p_y, "PZ": p_z, "E": energy}
            jets = RaggedJets.from_mask(mask, str(path), start)
            if label is None:
                yield jets.from_momenta(ordered)
            else:
                yield jets.from_momenta(ordered, _checked_label(path, label.take(values)[:, 0], start), CLASSES)


@dataclass(frozen=True)
class _Table:
    """Blocks of columns of one type each, as pandas stores them, and how rows of all blocks are read."""

    blocks: list[list[str]]
    n_rows: int
    rows_at_a_time: int
    read: Callable[[slice], list[NDArray[Any]]]

    @cached_property
    def names(self) -> list[str]:
        return [name for block in self.blocks for name in block]


class _Columns:
    """The columns `names` of rows that were read: taken in one indexing where one block holds them all."""

    def __init__(self, table: _Table, names: list[str]) -> None:
        where = {name: (b, i) for b, block in enumerate(table.blocks) for i, name in enumerate(block)}
        self.places = [where[name] for name in names]

    def take(self, values: list[NDArray[Any]]) -> NDArray[Any]:
        """``(rows, len(names))``."""
        if len({b for b, _ in self.places}) == 1:
            return np.asarray(values[self.places[0][0]][:, [i for _, i in self.places]])
        return np.stack([values[b][:, i] for b, i in self.places], axis=1)


def _pandas_groups(file: Any) -> list[str]:
    return [name for name in file if is_there(file, name) and "pandas_type" in getattr(file[name], "attrs", {})]


def _one_group(path: Path, file: Any) -> str:
    groups = _pandas_groups(file)
    if len(groups) == 1 or "table" in groups:
        return "table" if "table" in groups else groups[0]
    raise DataError(
        f"{path}: has the pandas tables {', '.join(groups)}. Allowed: one table, or one that is called 'table'. Write "
        f"the one you mean to a file of its own."
    )


def _blocks_of_table(path: Path, group: Any) -> _Table:
    table = data_set(path, group, "table")
    if not table.dtype.names or table.ndim != 1:
        raise DataError(f"{path}: {table.name!r} is {table.dtype} of shape {table.shape}. Allowed: a table of pandas.")
    fields = [field for field in table.dtype.names if field != "index"]
    # a column that pandas was asked to index has a field of its own
    blocks = [
        _names(path, attribute(path, table, f"{field}_kind")) if field.startswith("values_block_") else [field]
        for field in fields
    ]

    def read(rows: slice) -> list[NDArray[Any]]:
        values = table[rows]
        return [values[field].reshape(len(values), -1) for field in fields]

    for names, field in zip(blocks, fields, strict=True):
        width = math.prod(table.dtype[field].shape)
        if len(names) != width:
            raise DataError(f"{path}: {field} has {width} columns and {len(names)} names. The file is damaged.")
    return _Table(blocks, len(table), rows_at_a_time(table, most=PIECE), read)


def _fixed_blocks(path: Path, group: Any) -> _Table:
    numbers = range(int(attribute(path, group, "nblocks")) if "nblocks" in group.attrs else 0)
    if len(numbers) > _MOST_BLOCKS:
        raise DataError(f"{path}: claims {len(numbers)} blocks of columns. Allowed: {_MOST_BLOCKS}, one a type.")
    blocks, stored = [], []
    for k in numbers:
        items, values = (data_set(path, group, f"block{k}_{what}") for what in ("items", "values"))
        if items.dtype.kind != "S" or items.ndim != 1 or values.ndim != 2 or values.shape[1] != len(items):
            raise DataError(
                f"{path}: block{k}_values has the shape {values.shape} and block{k}_items {items.shape}. Allowed: "
                f"(rows, columns), and as many names as columns."
            )
        blocks.append([item.decode() for item in items[:]])
        stored.append(values)
    if len({len(values) for values in stored}) > 1:
        raise DataError(f"{path}: its blocks have {', '.join(str(len(v)) for v in stored)} rows. Allowed: as many.")
    rows = rows_at_a_time(*stored, most=PIECE) if stored else 1
    return _Table(blocks, len(stored[0]) if stored else 0, rows, lambda rows: [values[rows] for values in stored])


def _names(path: Path, pickled: Any) -> list[str]:
    try:
        return unpickled_names(bytes(pickled))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: the names of its columns cannot be read without running code from the file ({error}). Write it "
            f'again with pandas: pandas.read_hdf(FILE).to_hdf(NEW, key="table", format="fixed").'
        ) from error


def _momentum_names(path: Path, table: _Table) -> list[str]:
    if table.n_rows == 0:
        raise DataError(f"{path}: no jets (the table has no rows).")
    count = 1 + max((int(match[1]) for match in map(_ENERGY.match, table.names) if match), default=0)
    wanted = [f"{quantity}_{i}" for i in range(count) for quantity in MOMENTUM]
    known = set(table.names)
    for name in wanted:
        if name not in known:
            raise DataError(
                f"{path}: the table has no column {name!r}. Allowed: E_i, PX_i, PY_i, PZ_i (GeV) for every particle i "
                f"from 0. Found {len(known)} columns: {', '.join(table.names[:6])}, .... "
                f"{did_you_mean(name, table.names)}".rstrip()
            )
    return wanted


def _checked_label(path: Path, label: NDArray[Any], start: int) -> NDArray[np.int64]:
    wrong = np.flatnonzero((label != 0) & (label != 1))
    if len(wrong):
        raise DataError(f"{path}: jet {start + wrong[0]} has {LABEL}={label[wrong[0]]}. Allowed: 0 (QCD) and 1 (top).")
    return label.astype(np.int64)
