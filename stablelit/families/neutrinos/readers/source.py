"""What every format gives: a table of its events, and their pulses a file at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.neutrinos.event_table import EventTable
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.families.neutrinos.pulse_events import PulseEvents


class EventSource(ABC):
    """Events on disk.

    Attributes:
        path: of the file or folder.
        geometry: the detector.
        files: what is read at a time: the files, or stretches of one.
        batch_ids: ``(F,)``, by which files are told apart when events are split; equal ones are one file.
        table: the events that have a pulse; but for packed ones those of a file lie together, in the files' order.
        notes: what a user should know of the data, and what was left out.
        n_empty: events without a pulse, left out.
        n_all_auxiliary: events of the files read so far that have no HLC pulse; all their pulses are used.
        n_unsorted: events of the files read so far whose pulses had to be sorted by time.
    """

    path: Path
    geometry: DetectorGeometry
    files: tuple[str, ...]
    batch_ids: NDArray[np.int64]
    table: EventTable
    notes: tuple[str, ...] = ()
    n_empty: int = 0

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    @abstractmethod
    def read(self, file: int) -> PulseEvents:
        """The events of a file, in the table's order, checked.

        Raises:
            DataError: a file that is not what it should be.
        """

    @property
    def n_all_auxiliary(self) -> int:
        """Events without an HLC pulse in the files read so far."""
        return sum(seen[0] for seen in self._seen.values())

    @property
    def n_unsorted(self) -> int:
        """Events of the files read so far whose pulses were not in the order of their times."""
        return sum(seen[1] for seen in self._seen.values())

    def identity(self) -> dict[str, Any]:
        """What data these are: where from, how many, and a SHA-256 of ids, pulse counts and directions."""
        return {
            "source": str(self.path),
            "format": type(self).__name__,
            "files": len(self.files),
            "events": len(self.table),
            "pulses": self.table.n_pulses,
            "events_sha256": self.table.fingerprint(),
            "geometry_sha256": self.geometry.identity(),
        }

    def events_of_rows(
        self,
        file: int,
        begin: NDArray[np.int64],
        time: NDArray[Any],
        charge: NDArray[Any],
        sensor: NDArray[np.int64],
        auxiliary: NDArray[np.bool_],
        where: str,
    ) -> PulseEvents:
        """Makes events of a file's columns: sorted by time, relative to the first pulse, checked, counted.

        Args:
            file: which.
            begin: ``(n + 1,)``, where the table's events of that file begin in the columns.
            time: ``(P,)``, ns; whatever it is relative to.
            charge: ``(P,)``, photoelectrons.
            sensor: ``(P,)``, rows of the geometry.
            auxiliary: ``(P,)``.
            where: of what, for messages.
        """
        mine = np.flatnonzero(self.table.file == file)
        counts = np.diff(begin)
        time, unsorted = np.asarray(time), 0
        later = time[1:] < time[:-1]
        later[begin[1:-1] - 1] = False
        if later.any():
            event = np.repeat(np.arange(len(mine)), counts)
            unsorted = len(np.unique(event[:-1][later]))
            order = np.lexsort((time, event))
            time, charge, sensor, auxiliary = (column[order] for column in (time, charge, sensor, auxiliary))
        small = len(self.geometry) <= np.iinfo(np.uint16).max
        # a sensor that does not fit the type must be seen by the check, and not wrap around
        fits = small and (not len(sensor) or (sensor.min() >= 0 and sensor.max() <= np.iinfo(np.uint16).max))
        events = PulseEvents(
            event_id=self.table.event_id[mine],
            begin=begin,
            time=(time - np.repeat(time[begin[:-1]], counts)).astype(np.float32),
            charge=np.asarray(charge, dtype=np.float32),
            sensor=sensor.astype(np.uint16 if fits else np.int32),
            auxiliary=np.asarray(auxiliary, dtype=bool),
            **self.table.truth(mine),
        ).validate(len(self.geometry), where)
        hlc = np.add.reduceat(~events.auxiliary, begin[:-1], dtype=np.int64)
        self._seen[file] = (int((hlc == 0).sum()), unsorted)
        return events


def check_columns(found: list[str], wanted: tuple[str, ...], where: str) -> None:
    """Refuses a table without a column.

    Raises:
        DataError: names what is missing, and what is there.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{where}: has no column {', '.join(map(repr, missing))}. There are: {', '.join(found) or 'none'}. "
            f"Allowed: a table with {', '.join(wanted)}."
        )
