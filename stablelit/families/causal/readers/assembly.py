"""Makes a panel of a table: what was not observed, when, under which conditions, and what was set from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, did_you_mean
from stablelit.families.causal.panel import Bools, Floats, Ints, SensorPanel, first_not_rising
from stablelit.families.causal.readers.clock import seconds_of
from stablelit.families.causal.readers.settings import PanelSettings
from stablelit.families.causal.readers.table import Table


@dataclass(frozen=True)
class Reading:
    """What was read.

    Args:
        panel: valid.
        notes: what was done on the way, counted.
    """

    panel: SensorPanel
    notes: tuple[str, ...]


def assemble(table: Table, settings: PanelSettings, read_mask: Callable[[Path, Table], Bools]) -> Reading:
    """Makes a panel of a table.

    Args:
        table: what was read.
        settings: how.
        read_mask: reads the file of a mask for the columns of a table.

    Raises:
        DataError: times that are none, that come twice or do not rise, infinite values, a mask of another shape, an
            environment or a column that `interventions` names and that is not there, what `SensorPanel.validate`
            refuses.
    """
    notes = list(table.notes)
    values, mask = _observed(table, settings, notes)
    if "mask" in table.given:
        flags = flags_of(table.given["mask"], mask.shape, f"{table.source}: mask")
        mask = _masked(mask, flags, notes, f"mask in {table.source}")
    if settings.mask is not None:
        mask = _masked(mask, read_mask(Path(settings.mask), table), notes, settings.mask)
    environment, names = _environments(table, settings)
    intervened = _intervened(table, settings.interventions, environment, names)
    time, shown = _time(table, settings)
    rows = _order(table, settings, time, shown, environment, notes)
    truth = table.given.get("truth")
    if truth is not None:
        truth = flags_of(truth, (len(table.names),) * 2, f"{table.source}: truth")
    values = np.where(mask, values, 0.0)
    panel = SensorPanel(values, mask, table.names, time, environment, names, intervened, truth).take(rows)
    return Reading(panel.validate(table.source), tuple(notes))


def flags_of(array: NDArray[Any], shape: tuple[int, ...], what: str) -> Bools:
    """An array of 0 and 1, or of True and False, as bool.

    Args:
        array: of numbers.
        shape: that it must have.
        what: for messages.

    Raises:
        DataError: another shape, other values.
    """
    if array.shape != shape:
        raise DataError(f"{what} has shape {array.shape}. Allowed: {shape}, to go with the rows and columns of values.")
    if array.dtype == bool:
        return array
    wrong = np.argwhere((array != 0) & (array != 1))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise DataError(f"{what} has {array[at]} at {at}. Allowed: 1 where a cell was observed, and 0 where not.")
    return array.astype(bool)


def _observed(table: Table, settings: PanelSettings, notes: list[str]) -> tuple[Floats, Bools]:
    values = table.values.copy()
    for number in settings.not_observed.numbers:
        found = values == number
        if found.any():
            values[found] = np.nan
            notes.append(f"{int(found.sum())} cells are {number:g}, which na_values takes as not observed")
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0]
        raise DataError(
            f"{table.source}: {table.called(row)}, column {table.names[column]!r} has {values[row, column]} "
            f"({len(infinite)} cells are infinite). Allowed: finite numbers. Mend them, or add 'inf' and '-inf' to "
            f"na_values."
        )
    return values, ~np.isnan(values)


def _masked(mask: Bools, given: Bools, notes: list[str], where: str) -> Bools:
    unseen = int((given & ~mask).sum())
    if unseen:
        notes.append(f"{where} says of {unseen} cells that they were observed, but they have no value: not observed")
    notes.append(f"{where} takes away {int((mask & ~given).sum())} cells that have a value")
    return mask & given


def _environments(table: Table, settings: PanelSettings) -> tuple[Ints | None, tuple[str, ...]]:
    if settings.environment_column is None:
        given = table.given.get("environment")
        if given is None:
            return None, ()
        given = np.asarray(given).astype(np.int64)
        named = table.given.get("environment_names")
        called = range(int(given.max(initial=0)) + 1) if named is None else np.atleast_1d(named)
        return given, tuple(str(name) for name in called)
    cells = [_plain(cell) for cell in table.keys[settings.environment_column].tolist()]
    if "" in cells:
        raise DataError(
            f"{table.source}: {table.called(cells.index(''))} has no {settings.environment_column}. Allowed: an "
            f"environment in every row."
        )
    names = tuple(dict.fromkeys(cells))
    place = {name: at for at, name in enumerate(names)}
    return np.array([place[cell] for cell in cells], dtype=np.int64), names


def _intervened(
    table: Table, interventions: Mapping[Any, Any] | None, environment: Ints | None, names: tuple[str, ...]
) -> Bools | None:
    given = table.given.get("intervened")
    if given is not None:
        given = flags_of(given, table.values.shape, f"{table.source}: intervened")
    if interventions is None:
        return given
    if environment is None:
        raise DataError(f"{table.source}: interventions are given, but no environment_column that says where they are.")
    intervened = np.zeros(table.values.shape, dtype=bool) if given is None else given.copy()
    for name, targets in interventions.items():
        _known(_plain(name), names, table.source, "environment")
        rows = environment == names.index(_plain(name))
        for target in [targets] if isinstance(targets, str) else targets:
            _known(str(target), table.names, table.source, "column")
            intervened[rows, table.names.index(str(target))] = True
    return intervened


def _known(name: str, names: tuple[str, ...], source: str, what: str) -> None:
    if name not in names:
        raise DataError(
            f"{source}: interventions name the {what} {name!r}. Found: {', '.join(names)}. "
            f"{did_you_mean(name, names)}".rstrip()
        )


def _time(table: Table, settings: PanelSettings) -> tuple[Floats | None, NDArray[Any]]:
    """Time as numbers, and as it is written in the file."""
    given = table.given.get("time")
    if not settings.time_columns:
        return (None, np.empty(0)) if given is None else (np.asarray(given, dtype=np.float64), np.asarray(given))
    cells = table.keys[settings.time_columns[0]]
    if len(settings.time_columns) > 1:
        parts = zip(*(table.keys[name].tolist() for name in settings.time_columns), strict=True)
        cells = np.array([" ".join(str(part).strip() for part in row) for row in parts], dtype=object)
    return seconds_of(cells, table.source, table.called, settings.time_format), cells


def _order(
    table: Table,
    settings: PanelSettings,
    time: Floats | None,
    shown: NDArray[Any],
    environment: Ints | None,
    notes: list[str],
) -> Ints:
    rows = np.arange(len(table.values))
    if time is None:
        if settings.sort:
            raise DataError(f"{table.source}: sort=True needs time_column. Name it, or leave the rows as they are.")
        return rows
    if settings.sort:
        rows = np.argsort(time, kind="stable")
        if environment is not None and (np.diff(time[rows]) == 0).any():
            rows = np.lexsort((time, environment))
        notes.append(f"{int((rows != np.arange(len(rows))).sum())} of {len(rows)} rows were moved to sort them by time")
    found = first_not_rising(time[rows], None if environment is None else environment[rows])
    if found is None:
        return rows
    before, row = rows[found[0]], rows[found[1]]
    within = "" if environment is None else " of the same environment"
    if time[row] == time[before]:
        raise DataError(
            f"{table.source}: {table.called(row)} has the time {shown[row]}, as {table.called(before)}{within} has. "
            f"Allowed: every time once. Delete one of them, or name what tells them apart as environment_column."
        )
    raise DataError(
        f"{table.source}: {table.called(row)} has the time {shown[row]}, which is before {shown[before]} of "
        f"{table.called(before)}{within}. Allowed: times that rise. Use sort=True, or name what tells recordings apart "
        f"as environment_column."
    )


def _plain(cell: Any) -> str:
    """A name as text: 1.0 and 1 are one environment, whatever a format made of them."""
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:g}"
    return "" if cell is None else str(cell).strip()
