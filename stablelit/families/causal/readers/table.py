"""What every reader makes of a file, and what it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.causal.panel import Floats

_MOST_LISTED = 20


@dataclass(frozen=True)
class NotObserved:
    """The values that stand for a cell that was not observed; NaN always does.

    Args:
        texts: lower case, without blanks around.
        numbers: finite or infinite.
    """

    texts: frozenset[str]
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, owner: str, na_values: Iterable[Any]) -> NotObserved:
        """From a list of numbers and texts; a text that is a number counts as both.

        Raises:
            ConfigurationError: something else.
        """
        if isinstance(na_values, str) or not isinstance(na_values, Sequence):
            raise bad_argument(owner, "na_values", na_values, "a list of numbers and texts, e.g. [-200, '', 'NA']")
        texts, numbers = set(), []
        for value in na_values:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise bad_argument(owner, "na_values", value, "numbers and texts")
            if isinstance(value, str):
                texts.add(value.strip().lower())
            try:
                numbers.append(float(value))
            except ValueError:
                continue
        return cls(frozenset(texts), tuple(dict.fromkeys(n for n in numbers if not math.isnan(n))))


@dataclass(frozen=True)
class Request:
    """What is wanted of a file.

    Args:
        columns: whose values, in this order; None is all that are not `keys`.
        keys: columns that are read as they are: of time, of the environment.
        not_observed: see there.
        flags: whether True and False are numbers.
    """

    columns: tuple[str, ...] | None
    keys: tuple[str, ...]
    not_observed: NotObserved
    flags: bool = False

    def chosen(self, found: Sequence[str], source: str) -> tuple[str, ...]:
        """The columns of values among those that are there.

        Raises:
            DataError: a name that is not there (near names are given) or that comes twice, a column that is a key too.
        """
        twice = [name for name in found if found.count(name) > 1]
        if twice:
            times = found.count(twice[0])
            raise DataError(f"{source}: the column name {twice[0]!r} comes {times} times. Allowed: once. Rename one.")
        for name in (*self.keys, *(self.columns or ())):
            if name not in found:
                there = ", ".join(found[:_MOST_LISTED]) + (", ..." if len(found) > _MOST_LISTED else "")
                hint = did_you_mean(name, found)
                raise DataError(f"{source}: there is no column {name!r}. Found: {there or 'nothing'}. {hint}".rstrip())
        for name in self.columns or ():
            if name in self.keys:
                raise DataError(
                    f"{source}: column {name!r} is time or environment and cannot be in columns too. Take it out there."
                )
        if self.columns is not None:
            if len(set(self.columns)) < len(self.columns):
                raise DataError(f"{source}: columns={list(self.columns)} names a column twice. Allowed: once.")
            return self.columns
        return tuple(name for name in found if name not in self.keys)


@dataclass(frozen=True)
class Table:
    """What was read.

    Args:
        source: of what, for messages.
        names: of the columns of values.
        values: ``(T, d)`` float64, NaN where not observed.
        keys: the other columns that were asked for, by name: ``(T,)`` numbers, texts or times.
        called: what messages call a row, counted from 0: "line 17", "row 15".
        notes: what was done on the way.
        named: whether the file says the names itself.
        given: what else the file says of the rows: `mask`, `time`, `environment`, `environment_names`, `intervened`,
            `truth`, as in `SensorPanel`.
    """

    source: str
    names: tuple[str, ...]
    values: Floats
    keys: dict[str, NDArray[Any]]
    called: Callable[[int], str] = "row {}".format
    notes: tuple[str, ...] = ()
    named: bool = True
    given: dict[str, Any] = field(default_factory=dict)


def numbers_of(cells: Sequence[Any], not_observed: NotObserved) -> tuple[Floats, int | None]:
    """Cells of any kind as numbers, one by one, and the first that is none (where the numbers end)."""
    found = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells):
        if isinstance(cell, str):
            text = cell.strip()
            if text.lower() in not_observed.texts:
                continue
            cell = "" if "_" in text else text  # to Python, 1_000 is a number
        elif cell is None:
            continue
        try:
            found[place] = float(cell)
        except (TypeError, ValueError):
            return found, place
    return found, None


def no_number(source: str, row: str, column: str, value: Any) -> DataError:
    """The error for a cell that is no number."""
    return DataError(
        f"{source}: {row}, column {column!r} has {value!r}. Allowed: numbers, and what na_values lists. If it means "
        f"'not observed', add it there; if the column is no sensor, name the others in columns=[...], or name it as "
        f"time_column or environment_column."
    )
