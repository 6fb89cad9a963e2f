"""What GraphNeT's two formats share: from a table of pulses and one of truth to events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.neutrinos.event_table import EventTable
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.pulse_events import PulseEvents
from stablelit.families.neutrinos.readers.graphnet_columns import (
    INDEX,
    Columns,
    Pointing,
    find_columns,
    truth_columns,
)
from stablelit.families.neutrinos.readers.sensor_places import SensorFinder, detector_of
from stablelit.families.neutrinos.readers.source import EventSource


class GraphnetTables(EventSource):
    """The part of `GraphnetDatabase` and `GraphnetFolder` that does not know where the tables are."""

    columns: Columns

    def _choose_columns(
        self,
        tables: Mapping[str, Sequence[str]],
        pulse_table: str | None,
        truth_table: str | None,
        columns: Mapping[str, str] | None,
        pointing: Pointing,
    ) -> None:
        self.columns = find_columns(tables, str(self.path), pulse_table, truth_table, columns, pointing)
        self.notes = self.columns.notes

    def _make_table(
        self,
        event_no: NDArray[np.int64],
        count: NDArray[np.int64],
        file: NDArray[np.int32],
        raw: dict[str, NDArray[Any]] | None,
    ) -> None:
        """Joins what has pulses with what has truth; what has one only is left out and counted."""
        if raw is None:
            self.table = EventTable(event_no, file, count).validate(str(self.path))
            return
        where = f"{self.path}: {self.columns.truth}"
        ids = raw[INDEX].astype(np.int64)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        twice = np.flatnonzero(np.diff(ids) == 0)
        if len(twice):
            raise DataError(f"{where}: {INDEX} {int(ids[twice[0]])} is there twice ({len(twice)} such). Allowed: once.")
        place = np.searchsorted(ids, event_no)
        known = np.flatnonzero((place < len(ids)) & (ids[np.minimum(place, len(ids) - 1)] == event_no))
        self.n_empty = len(ids) - len(known)
        if len(known) < len(event_no):
            lost = np.setdiff1d(event_no, event_no[known])
            self.notes += (
                f"{len(lost)} events have pulses but no row in {self.columns.truth!r} (event_no {int(lost[0])} the "
                f"first): left out",
            )
        rows = order[place[known]]
        of_truth = {key: raw[name][rows] for key, name in self.columns.of_truth.items()}
        truth = truth_columns(of_truth, self.columns.momentum)
        self.table = EventTable(event_no[known], file[known], count[known], **truth).validate(where)

    def _take_sensors_of_file(self, position: NDArray[Any]) -> None:
        self.geometry, places, told = detector_of(position.astype(np.float64), str(self.path))
        self._sensors_at = SensorFinder(places)
        self.notes += (told,)

    def _take_sensors_of(self, geometry: DetectorGeometry) -> None:
        self.geometry, self._sensors_at = geometry, SensorFinder(geometry.position)
        if self._sensors_at.depth:
            self.notes += (
                f"positions deeper than 1 km are moved up by {self._sensors_at.depth} m to IceCube's centre",
            )

    def _events(self, file: int, raw: dict[str, NDArray[Any]], where: str) -> PulseEvents:
        """The events of a stretch of the table of pulses; rows of events that are left out may be among them."""
        mine = self.table.file == file
        ids, counts = self.table.event_id[mine], self.table.pulse_count[mine]
        event_no = raw[INDEX].astype(np.int64)
        rows = np.flatnonzero(np.isin(event_no, ids))
        rows = rows[np.argsort(event_no[rows], kind="stable")]
        order = np.argsort(ids, kind="stable")
        begin = np.concatenate([[0], np.cumsum(counts[order])])
        if len(rows) != begin[-1] or (event_no[rows] != np.repeat(ids[order], counts[order])).any():
            raise DataError(f"{where}: has other pulses than when it was opened. Leave it as it is during a run.")
        column = {key: raw[name][rows] for key, name in self.columns.of_pulses.items()}
        position = np.stack([column[axis] for axis in "xyz"], axis=1).astype(np.float64)
        auxiliary = np.zeros(len(rows), dtype=bool)
        if "auxiliary" in column:
            auxiliary = column["auxiliary"].astype(bool)
        elif "hlc" in column:
            auxiliary = ~column["hlc"].astype(bool)
        return self.events_of_rows(
            file,
            begin,
            column["time"].astype(np.float64),
            column.get("charge", np.ones(len(rows), dtype=np.float32)),
            self._sensors_at(position, where),
            auxiliary,
            where,
        )
