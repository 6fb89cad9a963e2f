"""Packed events: PulseEvents' columns as memory-mapped files of numpy, 11 B a pulse, in a folder with a header.

::

    packed.json           version, numbers of events and pulses, type and size of each column, where they came from
    sensor_geometry.csv   the detector
    time.npy charge.npy sensor.npy auxiliary.npy                    one value a pulse
    begin.npy event_id.npy batch_id.npy                             one value an event (`begin` has one more)
    sensor_count.npy hlc_sensor_count.npy                           likewise
    azimuth.npy zenith.npy energy.npy is_track.npy                  one value an event, where they are known

`python -m stablelit.prepare neutrinos` writes it. Opening one reads no pulse; a batch reads the pages it needs, which
the operating system keeps as long as there is room. The events may be in any order: `batch_id` says which file each
came from, so that a split by files is the same as before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.mapped_files import MappedFiles
from stablelit.data.safe_load import mapped_array
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.event_table import TRUTH_COLUMNS, EventTable
from stablelit.families.neutrinos.geometry import DetectorGeometry, read_geometry
from stablelit.families.neutrinos.pulse_events import PULSE_COLUMNS, PulseEvents
from stablelit.families.neutrinos.readers.kaggle import in_words
from stablelit.families.neutrinos.readers.source import EventSource
from stablelit.run_files import from_json

HEADER = "packed.json"
GEOMETRY = "sensor_geometry.csv"
VERSION = 2
EVENT_DTYPES = {
    "event_id": "<i8",
    "batch_id": "<i8",
    "sensor_count": "<i4",
    "hlc_sensor_count": "<i4",
    "azimuth": "<f8",
    "zenith": "<f8",
    "energy": "<f4",
    "is_track": "|b1",
}
PULSE_DTYPES = {"time": "<f4", "charge": "<f4", "sensor": "<u2", "auxiliary": "|b1"}
_KNOWN = {"begin", *EVENT_DTYPES, *PULSE_DTYPES}
_NEEDED = ("begin", "event_id", "batch_id", "sensor_count", "hlc_sensor_count", *PULSE_COLUMNS)


def is_packed(path: str | Path) -> bool:
    """Whether a folder holds packed events."""
    return (Path(path) / HEADER).is_file()


class PackedFolder(EventSource):
    """A folder of packed events.

    Args:
        path: of the folder.
        batch_ids: of which files events are used; None uses all.

    Attributes:
        events: all packed events, memory-mapped.
        places: ``(E,)``, where the table's events are among them.
        sensor_count: ``(E,)``, distinct sensors of each event of the table.
        hlc_sensor_count: ``(E,)``, those with an HLC pulse.

    Raises:
        DataError: no header, one of another version, a column that is missing, of another type or cut short.
        ConfigurationError: batch ids that are not there; which are is said.
    """

    def __init__(self, path: str | Path, batch_ids: Sequence[int] | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.header = _read_header(self.path)
        n_events, n_pulses = int(self.header["n_events"]), int(self.header["n_pulses"])
        columns = {name: self._column(name, n_events, n_pulses) for name in self.header["columns"]}
        self._mapped = MappedFiles(self.path / f"{name}.npy" for name in columns)
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            raise DataError(f"{self.path / HEADER}: names no column {missing[0]!r}. Pack the events again.")
        self.geometry = read_geometry(self.path / GEOMETRY)
        if position_sha256(self.geometry) != self.header["position_sha256"]:
            raise DataError(f"{self.path / GEOMETRY}: is not the detector these events were packed with. Pack again.")
        begin = np.array(columns["begin"])
        if begin[0] != 0 or begin[-1] != n_pulses or (np.diff(begin) < 1).any():
            raise DataError(
                f"{self.path / 'begin.npy'}: events begin at {int(begin[0])} and end at {int(begin[-1])} of {n_pulses} "
                f"pulses, or one has no pulse. The file is damaged: pack the events again."
            )
        of_events = {name: columns.get(name) for name in TRUTH_COLUMNS}
        self.events = PulseEvents(
            event_id=columns["event_id"], begin=begin, **{name: columns[name] for name in PULSE_COLUMNS}, **of_events
        )
        batch = np.array(columns["batch_id"])
        there = np.unique(batch)
        missing = [b for b in batch_ids or () if b not in there]
        if missing:
            raise ConfigurationError(
                f"{self.path}: holds no event of batch {missing[0]}. There are: {in_words(there.tolist())}."
            )
        self.batch_ids = there if batch_ids is None else np.array(sorted(set(batch_ids)), dtype=np.int64)
        self.places = np.flatnonzero(np.isin(batch, self.batch_ids))
        self.files = tuple(f"batch {b}" for b in self.batch_ids.tolist())
        chosen = {name: None if c is None else np.array(c[self.places]) for name, c in of_events.items()}
        self.table = EventTable(
            event_id=np.array(columns["event_id"][self.places]),
            file=np.searchsorted(self.batch_ids, batch[self.places]).astype(np.int32),
            pulse_count=np.diff(begin)[self.places],
            **chosen,
        ).validate(str(self.path))
        self.sensor_count: NDArray[np.int32] = np.array(columns["sensor_count"][self.places])
        self.hlc_sensor_count: NDArray[np.int32] = np.array(columns["hlc_sensor_count"][self.places])
        self.n_empty = int(self.header.get("n_empty", 0))
        self.notes = tuple(self.header.get("notes", ()))

    @property
    def shuffled(self) -> bool:
        """Whether the events lie in a random order."""
        return bool(self.header.get("shuffled", False))

    @property
    def n_all_auxiliary(self) -> int:
        """Packed events without an HLC pulse, those of other batches included."""
        return int(self.header.get("n_all_auxiliary", 0))

    def take(self, places: NDArray[np.int64]) -> PulseEvents:
        """The packed events at some places, in that order; a file that was cut short meanwhile is a `DataError`."""
        self._mapped.require_whole()
        return self.events.take(places)

    def read(self, file: int) -> PulseEvents:
        """The events of one batch."""
        return self.take(self.places[self.table.file == file])

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker that is spawned opens the folder anew: pickled, the columns would be copied whole
        return type(self), (self.path, self.batch_ids.tolist())

    def identity(self) -> dict[str, Any]:
        """Also where the packed events came from."""
        return {**super().identity(), "packed_from": self.header.get("source", {})}

    def _column(self, name: str, n_events: int, n_pulses: int) -> NDArray[Any]:
        path = self.path / f"{name}.npy"
        if not path.is_file():
            raise DataError(f"{path}: is missing, though {HEADER} names it. Pack the events again.")
        rows = n_pulses if name in PULSE_COLUMNS else n_events + (name == "begin")
        try:
            column = mapped_array(path)
        except DataError as error:
            size = path.stat().st_size
            raise DataError(
                f"{path}: is damaged or cut short, {size} bytes are there ({error}). Pack again."
            ) from error
        wanted = self.header["columns"][name]
        if column.shape != (rows,) or column.dtype.str != wanted:
            raise DataError(
                f"{path}: holds {column.shape} values of {column.dtype}. Allowed: ({rows},) of {wanted}, as {HEADER} "
                f"says. Pack the events again."
            )
        return column


def position_sha256(geometry: DetectorGeometry) -> str:
    """SHA-256 of the sensors' positions, which are what sensor_geometry.csv has."""
    return hashlib.sha256(geometry.position.astype("<f4").tobytes()).hexdigest()


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    if not path.is_file():
        raise DataError(f"{folder}: has no {HEADER}. Allowed: a folder that `python -m stablelit.prepare` has written.")
    try:
        header = from_json(path.read_text(encoding="utf-8"))
        version = header["version"]
        if version == VERSION:
            _ = int(header["n_events"]), int(header["n_pulses"]), header["position_sha256"]
            # names of files, which might else be in another folder
            if strange := [name for name in dict(header["columns"]) if name not in _KNOWN]:
                raise ValueError(f"names the column {strange[0][:60]!r}, which no events have")
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: is no header of packed events ({error!r}). Pack the events again.") from error
    if version != VERSION:
        raise DataError(f"{path}: is of version {version}. Allowed: {VERSION}. Pack the events again.")
    return dict(header)
