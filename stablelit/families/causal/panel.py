"""Rows of several sensors as plain numpy arrays: what readers read, generators make and the datamodule splits.

Convention of the family: in a graph, ``[i, j]`` is the edge i -> j. A cell that was not observed is 0.0 with `mask`
False; there is no NaN anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, did_you_mean

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SensorPanel:
    """T rows of d columns in the order in which they were recorded, with what is known of them.

    Args:
        values: ``(T, d)`` in the columns' own units; 0.0 where not observed.
        mask: ``(T, d)`` True where a cell was observed.
        names: of the columns.
        time: ``(T,)`` in seconds or in whatever unit a numeric time column has; None where there is none. It rises
            strictly within each environment.
        environment: ``(T,)`` under which conditions a row was recorded, a place in `environment_names`; None is one.
        environment_names: what the conditions are called.
        intervened: ``(T, d)`` True where the column was set from outside in that row (its parents do not act); None is
            nowhere.
        truth: ``(d, d)`` True at [i, j] where i -> j is known to be an edge within a row; None where it is not known.
    """

    values: Floats
    mask: Bools
    names: tuple[str, ...]
    time: Floats | None = None
    environment: Ints | None = None
    environment_names: tuple[str, ...] = ()
    intervened: Bools | None = None
    truth: Bools | None = None

    @classmethod
    def from_values(
        cls, values: NDArray[Any], names: Sequence[str] | None = None, mask: Bools | None = None, **others: Any
    ) -> SensorPanel:
        """A panel of an array in which NaN is a cell that was not observed; names are x0, x1, ... where None."""
        table = np.array(values, dtype=np.float64, ndmin=2)
        observed = ~np.isnan(table)
        if mask is not None:
            observed &= _of_shape("mask", np.asarray(mask, dtype=bool), table.shape, "SensorPanel")
        table[~observed] = 0.0
        called = tuple(f"x{i}" for i in range(table.shape[1])) if names is None else tuple(str(n) for n in names)
        return cls(table, observed, called, **others)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_columns(self) -> int:
        """How many columns there are, d."""
        return int(self.values.shape[1])

    @property
    def missing_share(self) -> float:
        """Share of the cells that were not observed."""
        return float(1.0 - self.mask.mean())

    @property
    def scored(self) -> Bools:
        """``(T, d)`` cells that a model of their parents can be judged by: observed, and not set from outside."""
        return self.mask if self.intervened is None else self.mask & ~self.intervened

    def fingerprint(self) -> str:
        """SHA-256 of the values and of which of them were observed."""
        digest = hashlib.sha256(np.ascontiguousarray(self.values).tobytes())
        digest.update(np.packbits(self.mask).tobytes())
        return digest.hexdigest()

    def take(self, rows: Sequence[int] | NDArray[Any] | slice) -> SensorPanel:
        """The panel of `rows`, in that order."""
        return replace(
            self,
            values=self.values[rows],
            mask=self.mask[rows],
            time=None if self.time is None else self.time[rows],
            environment=None if self.environment is None else self.environment[rows],
            intervened=None if self.intervened is None else self.intervened[rows],
        )

    def columns(self, names: Sequence[str]) -> SensorPanel:
        """The panel of some columns, in the order of `names`.

        Raises:
            DataError: no such column; near names are given.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise DataError(
                f"SensorPanel: there is no column {missing[0]!r}. Known: {', '.join(self.names)}. "
                f"{did_you_mean(missing[0], self.names)}".rstrip()
            )
        at = [self.names.index(name) for name in names]
        intervened = None if self.intervened is None else self.intervened[:, at]
        truth = None if self.truth is None else self.truth[np.ix_(at, at)]
        return replace(
            self,
            values=self.values[:, at],
            mask=self.mask[:, at],
            names=tuple(names),
            intervened=intervened,
            truth=truth,
        )

    def recordings(self) -> Ints:
        """``(T,)`` number of the stretch of rows that follow one another, from 0.

        A new one begins where time does not rise, and, where there is no time, where the environment changes.
        """
        begins = np.zeros(len(self), dtype=np.int64)
        if self.time is not None:
            begins[1:] = np.diff(self.time) <= 0
        elif self.environment is not None:
            begins[1:] = np.diff(self.environment) != 0
        return np.cumsum(begins)

    def validate(self, place: str) -> SensorPanel:
        """Checks the panel and returns it.

        Args:
            place: what the messages call it: a file's name, or the generator's.

        Raises:
            DataError: other shapes, fewer than 2 columns, no row, names that come twice, values that are not finite, a
                value in a cell that was not observed, a column that was never observed or never varies, time that does
                not rise, an environment without a name, a true graph with self-loops.
        """
        self._check_shapes(place)
        bad = np.argwhere(~np.isfinite(self.values))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"{place}: row {row}, column {self.names[column]!r} has {self.values[row, column]} ({len(bad)} cells "
                f"are not finite). Allowed: finite numbers. Name the value in na_values if it means 'not observed'."
            )
        bad = np.argwhere(~self.mask & (self.values != 0))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"{place}: row {row}, column {self.names[column]!r} was not observed but has "
                f"{self.values[row, column]:g}. Allowed: 0.0 where mask is False."
            )
        self._check_columns(place)
        self._check_time(place)
        return self

    def _check_shapes(self, place: str) -> None:
        if self.values.ndim != 2:
            raise DataError(f"{place}: values have shape {self.values.shape}. Allowed: (rows, columns).")
        rows, columns = self.values.shape
        if rows == 0:
            raise DataError(f"{place}: there is no row.")
        if columns < 2:
            raise DataError(
                f"{place}: there is {columns} column ({', '.join(self.names)}). Allowed: 2 or more, since an edge "
                f"joins two."
            )
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise DataError(f"{place}: the column name {twice[0]!r} comes {self.names.count(twice[0])} times. Rename.")
        if len(self.names) != columns:
            raise DataError(f"{place}: {len(self.names)} names for {columns} columns. Allowed: one for each.")
        wanted: dict[str, tuple[int, ...]] = {
            "mask": (rows, columns),
            "time": (rows,),
            "environment": (rows,),
            "intervened": (rows, columns),
            "truth": (columns, columns),
        }
        for name, shape in wanted.items():
            if (array := getattr(self, name)) is not None:
                _of_shape(name, array, shape, place)
        if (
            self.environment is not None
            and not ((self.environment >= 0) & (self.environment < len(self.environment_names))).all()
        ):
            raise DataError(
                f"{place}: environments are numbered {self.environment.min()} to {self.environment.max()}. Allowed: 0 "
                f"to {len(self.environment_names) - 1}, places in environment_names."
            )
        if self.truth is not None and np.diag(self.truth).any():
            loop = self.names[int(np.flatnonzero(np.diag(self.truth))[0])]
            raise DataError(f"{place}: the true graph has the self-loop {loop} -> {loop}. Allowed: none; remove it.")

    def _check_columns(self, place: str) -> None:
        seen = self.mask.sum(axis=0)
        if (seen == 0).any():
            names = [n for n, count in zip(self.names, seen, strict=True) if count == 0]
            raise DataError(
                f"{place}: {_listed(names)} {'was' if len(names) == 1 else 'were'} never observed ({len(self)} rows, "
                f"all missing). Leave out with columns=[...], or look at na_values."
            )
        low = np.where(self.mask, self.values, np.inf).min(axis=0)
        high = np.where(self.mask, self.values, -np.inf).max(axis=0)
        if (low == high).any():
            told = [f"{n!r} (always {v:g})" for n, v, h in zip(self.names, low, high, strict=True) if v == h]
            raise DataError(
                f"{place}: {'column' if len(told) == 1 else 'columns'} {', '.join(told)} never "
                f"{'varies' if len(told) == 1 else 'vary'}: nothing can be learned of its causes. Leave out with "
                f"columns=[...]."
            )

    def _check_time(self, place: str) -> None:
        if self.time is None:
            return
        if not np.isfinite(self.time).all():
            row = int(np.flatnonzero(~np.isfinite(self.time))[0])
            raise DataError(f"{place}: row {row} has no time ({self.time[row]}). Allowed: a time in every row.")
        found = first_not_rising(self.time, self.environment)
        if found is not None:
            before, row = found
            what = "the same time as" if self.time[row] == self.time[before] else "an earlier time than"
            raise DataError(
                f"{place}: row {row} has time {self.time[row]:.15g}, {what} row {before} ({self.time[before]:.15g}). "
                f"Allowed: times that rise within each environment."
            )


def first_not_rising(time: Floats, environment: Ints | None) -> tuple[int, int] | None:
    """The first row whose time is not above that of the row before it in its environment, as (before, row)."""
    order = np.arange(len(time)) if environment is None else np.argsort(environment, kind="stable")
    flat = np.diff(time[order]) <= 0
    if environment is not None:
        flat &= np.diff(environment[order]) == 0
    places = np.flatnonzero(flat)
    if not len(places):
        return None
    first = places[np.argmin(order[places + 1])]
    return int(order[first]), int(order[first + 1])


def _of_shape(name: str, array: NDArray[Any], shape: tuple[int, ...], place: str) -> NDArray[Any]:
    if array.shape != shape:
        raise DataError(f"{place}: {name} has shape {array.shape}. Allowed: {shape}, to go with the values.")
    return array


def _listed(names: Sequence[str]) -> str:
    return f"column {names[0]!r}" if len(names) == 1 else f"columns {', '.join(map(repr, names))}"
