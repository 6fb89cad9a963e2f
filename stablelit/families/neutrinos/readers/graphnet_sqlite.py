"""GraphNeT's SQLite databases: a table of pulses and one of truth, joined by event_no. See `graphnet_columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file
from stablelit.errors import DataError
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.pulse_events import PulseEvents
from stablelit.families.neutrinos.readers.graphnet_columns import INDEX, Pointing
from stablelit.families.neutrinos.readers.graphnet_tables import GraphnetTables
from stablelit.families.neutrinos.readers.opened_sqlite import opened_sqlite

EVENTS_A_STRETCH = 20_000
"""Events that are read at a time."""


class GraphnetDatabase(GraphnetTables):
    """A database of GraphNeT's.

    It is one file: its events are split at random. They are read a stretch of ascending event_no at a time; an index on
    event_no, which GraphNeT makes, is what makes that fast.

    Args:
        path: of the file, .db or .sqlite.
        pulse_table: the table of pulses; None finds it.
        truth_table: the table of truth; None finds it.
        columns: names of columns that are not the usual ones.
        pointing: what the angles point to; "auto" goes by their names.
        geometry: of the detector; None takes the positions that occur.

    Raises:
        DataError: not a database, no table of pulses (a view is none), a missing column, a null or text where a number
            is meant, what `opened_sqlite` refuses.
        ConfigurationError: tables that are not there, or several that could be meant.
    """

    def __init__(
        self,
        path: str | Path,
        pulse_table: str | None = None,
        truth_table: str | None = None,
        columns: Mapping[str, str] | None = None,
        pointing: Pointing = "auto",
        geometry: DetectorGeometry | None = None,
    ) -> None:
        self.path = existing_file(path, "databases of GraphNeT", "*.db")
        super().__init__()
        self._choose_columns(self._tables(), pulse_table, truth_table, columns, pointing)
        pulses = _quoted(self.columns.pulses)
        counts = self._query(f"SELECT {INDEX}, COUNT(*) FROM {pulses} GROUP BY {INDEX} ORDER BY {INDEX}", (INDEX, "n"))
        event_no, count = counts[INDEX].astype(np.int64), counts["n"].astype(np.int64)
        n_stretches = max(1, -(-len(event_no) // EVENTS_A_STRETCH))
        file = (np.arange(len(event_no)) // EVENTS_A_STRETCH).astype(np.int32)
        self.files = tuple(f"{self.path.name}, stretch {k}" for k in range(n_stretches))
        self.batch_ids = np.zeros(n_stretches, dtype=np.int64)
        self._make_table(event_no, count, file, self._truth())
        if geometry is None:
            axes = [self.columns.of_pulses[axis] for axis in "xyz"]
            listed = ", ".join(map(_quoted, axes))
            places = self._query(f"SELECT DISTINCT {listed} FROM {pulses}", axes)
            self._take_sensors_of_file(np.stack([places[axis] for axis in axes], axis=1))
        else:
            self._take_sensors_of(geometry)

    def read(self, file: int) -> PulseEvents:
        """The events of a stretch, by event_no.

        Raises:
            DataError: pulses that are not valid.
        """
        ids = self.table.event_id[self.table.file == file]
        names = [INDEX, *self.columns.of_pulses.values()]
        listed, table = ", ".join(map(_quoted, names)), _quoted(self.columns.pulses)
        found = self._query(
            f"SELECT {listed} FROM {table} WHERE {INDEX} BETWEEN ? AND ? ORDER BY {INDEX}",
            names,
            (int(ids[0]), int(ids[-1])),
        )
        return self._events(file, found, str(self.path))

    def _truth(self) -> dict[str, NDArray[Any]] | None:
        if self.columns.truth is None:
            return None
        names = [INDEX, *self.columns.of_truth.values()]
        listed, table = ", ".join(map(_quoted, names)), _quoted(self.columns.truth)
        return self._query(f"SELECT {listed} FROM {table} ORDER BY {INDEX}", names)

    def _tables(self) -> dict[str, list[str]]:
        with opened_sqlite(self.path) as database:
            there = database.execute("SELECT name, type, rootpage FROM sqlite_master").fetchall()
            # a virtual table has no page of its own: a module of SQLite computes it
            tables = [name for name, kind, page in there if kind == "table" and page and isinstance(name, str)]
            found = {
                name: [row[1] for row in database.execute(f"PRAGMA table_info({_quoted(name)})")] for name in tables
            }
        if not found and (views := [str(name) for name, kind, _ in there if kind == "view"]):
            raise DataError(
                f"{self.path}: has views alone ({', '.join(views[:5])}), and a view may compute anything. Allowed: "
                f"tables. Make one of it: CREATE TABLE pulses AS SELECT * FROM {views[0]}."
            )
        return found

    def _query(self, query: str, names: Sequence[str], values: tuple[int, ...] = ()) -> dict[str, NDArray[Any]]:
        with opened_sqlite(self.path) as database:
            rows = database.execute(query, values).fetchall()
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        return {name: self._numbers(column, name) for name, column in zip(names, columns, strict=True)}

    def _numbers(self, column: Sequence[Any], name: str) -> NDArray[Any]:
        # by their types: numpy would make every number as wide as the longest text among them
        if not {*map(type, column)} <= {int, float}:
            row = next(i for i, value in enumerate(column) if type(value) not in (int, float))
            raise DataError(
                f"{self.path}: {name} is {column[row]!r:.80} in a row ({row} of those read). Allowed: numbers. Mend or "
                f"drop such rows."
            )
        return np.array(column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
