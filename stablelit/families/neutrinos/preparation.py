"""Packs events of any format into a memory map, in a random order, in memory that does not grow with their number.

The random order is drawn first: where each event will lie follows from the numbers of pulses, which the table has. Then
two passes: each file is read once and its events are thrown into shards, stretches of the final order that fit in
memory; each shard is read once, put in order and appended. Memory holds the table of events, one file and one shard,
and the disk everything twice while it runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.neutrinos.event_files import new_folder
from stablelit.families.neutrinos.event_store import distinct_sensors, places_in_file
from stablelit.families.neutrinos.event_table import EventTable
from stablelit.families.neutrinos.pulse_events import PULSE_COLUMNS, PulseEvents
from stablelit.families.neutrinos.readers import EventSource, open_source
from stablelit.families.neutrinos.readers.graphnet_columns import Pointing
from stablelit.families.neutrinos.readers.packed import (
    EVENT_DTYPES,
    GEOMETRY,
    HEADER,
    PULSE_DTYPES,
    VERSION,
    position_sha256,
)
from stablelit.families.neutrinos.splits import first_events
from stablelit.families.neutrinos.told import reading_bar
from stablelit.functional.schedules import check_count, check_flag

_OWNER = "prepare neutrinos"
_SHARDS = "shards"

PULSES_A_SHARD = 1 << 25
"""370 MB at 11 B a pulse."""


def prepare(
    path: str,
    output: str,
    seed: int = 0,
    batch_ids: Sequence[int] | None = None,
    shuffle: bool = True,
    max_events: int | None = None,
    format: str = "auto",
    geometry: str | None = None,
    pulse_table: str | None = None,
    truth_table: str | None = None,
    columns: Mapping[str, str] | None = None,
    pointing: Pointing = "auto",
    pulses_a_shard: int = PULSES_A_SHARD,
) -> dict[str, Any]:
    """Writes a packed folder (see `readers.packed`), whole or not at all.

    Args:
        path: of the events, of any format of `readers`.
        output: the folder, new or empty.
        seed: of the order.
        batch_ids: of which files; None takes all.
        shuffle: whether the events are put in a random order.
        max_events: at most so many: of the first files that hold them, spread evenly.
        format: as in `open_source`, like the five that follow.
        geometry: of the detector.
        pulse_table: GraphNeT's table of pulses.
        truth_table: GraphNeT's table of truth.
        columns: GraphNeT's columns that are not the usual ones.
        pointing: what GraphNeT's angles point to.
        pulses_a_shard: that memory holds at a time.

    Returns:
        How many events, pulses and bytes were written, and what was left out.

    Raises:
        ConfigurationError: an argument outside its range, `output` is there already, the disk is too small.
        DataError: events that cannot be used.
    """
    check_count(_OWNER, "seed", seed, 0)
    check_flag(_OWNER, "shuffle", shuffle)
    check_count(_OWNER, "pulses_a_shard", pulses_a_shard, 1)
    if max_events is not None:
        check_count(_OWNER, "max_events", max_events, 1)
    reading: dict[str, Any] = {"pulse_table": pulse_table, "truth_table": truth_table, "columns": columns}
    source = open_source(path, format, batch_ids, geometry, pointing=pointing, **reading)
    batch = source.batch_ids[source.table.file]
    places = first_events(batch, np.arange(len(source.table)), max_events)
    order = np.arange(len(places))
    if shuffle:
        order = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(len(places))
    with new_folder(output) as folder:
        packing = _Packing(folder, source, places, order, pulses_a_shard)
        packing.check_space(shuffled=shuffle)
        packing.throw_into_shards()
        packing.put_shards_together()
        packing.write_columns_of_events()
        done = packing.write_header(shuffled=shuffle, seed=seed)
    for note in source.notes:
        print(f"prepare: {source.path}: {note}.")
    return {"output": str(output), **done}


class _Packing:
    """One packing.

    Args:
        folder: that is being written.
        source: of the events.
        places: which of its table, ascending.
        order: which of `places` lies at each position.
        pulses_a_shard: at most, but for a single event.
    """

    def __init__(
        self,
        folder: Path,
        source: EventSource,
        places: NDArray[np.int64],
        order: NDArray[np.int64],
        pulses_a_shard: int,
    ) -> None:
        self.folder, self.source, self.places = folder, source, places
        self.table: EventTable = source.table.take(places[order])
        self._order = order
        self._position = np.empty_like(order)
        self._position[order] = np.arange(len(order))
        self.begin = np.concatenate([[0], np.cumsum(self.table.pulse_count)])
        self._shard = (self.begin[:-1] // pulses_a_shard).astype(np.int64)
        self._sensor_count, self._hlc_sensor_count = np.zeros((2, len(order)), dtype=np.int64)
        self._n_all_auxiliary = 0
        self._arrived: dict[int, list[NDArray[np.int64]]] = {}
        self.dtypes = dict(PULSE_DTYPES)
        if len(source.geometry) > np.iinfo(np.uint16).max:
            self.dtypes["sensor"] = "<i4"

    def check_space(self, shuffled: bool) -> None:
        """Refuses to begin what the disk cannot hold."""
        a_pulse = sum(np.dtype(kind).itemsize for kind in self.dtypes.values())
        needed = int(self.begin[-1]) * a_pulse * 2 + len(self.table) * 64
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise ConfigurationError(
                f"{_OWNER}: {len(self.table)} events of {int(self.begin[-1])} pulses need {needed / 1e9:.1f} GB while "
                f"they are packed, but {free / 1e9:.1f} GB are free at {self.folder.parent}. Take fewer (max_events, "
                f"batch_ids), or another disk."
            )

    def throw_into_shards(self) -> None:
        """First pass: each file once; its events are appended to the shards that they belong to."""
        (self.folder / _SHARDS).mkdir()
        file_of = self.source.table.file[self.places]
        in_file = places_in_file(self.source.table.file)[self.places]
        files = np.unique(file_of).tolist()
        with reading_bar(len(files), "reading") as done:
            for n_read, file in enumerate(files, start=1):
                mine = np.flatnonzero(file_of == file)
                events = self.source.read(file)
                position = self._position[mine]
                by_position = np.argsort(position)
                mine, position = mine[by_position], position[by_position]
                events = events.take(in_file[mine])
                self._look_at(events, position)
                self._append(events, position)
                done(n_read)

    def put_shards_together(self) -> None:
        """Second pass: each shard once, in its final order."""
        n_pulses = int(self.begin[-1])
        shards = sorted(self._arrived)
        opened = {name: (self.folder / f"{name}.npy").open("wb") for name in PULSE_COLUMNS}
        try:
            for name, file in opened.items():
                described = {"descr": self.dtypes[name], "fortran_order": False, "shape": (n_pulses,)}
                np.lib.format.write_array_header_1_0(file, described)
            with reading_bar(len(shards), "writing") as done:
                for n_written, shard in enumerate(shards, start=1):
                    arrived = np.concatenate(self._arrived[shard])
                    events = self._shard_as_it_came(shard, arrived).take(np.argsort(arrived))
                    for name, file in opened.items():
                        file.write(getattr(events, name).tobytes())
                        self._shard_file(shard, name).unlink()
                    done(n_written)
        finally:
            for file in opened.values():
                file.close()
        shutil.rmtree(self.folder / _SHARDS)

    def write_columns_of_events(self) -> None:
        """The columns that have one value an event."""
        columns = {
            "begin": self.begin.astype("<i8"),
            "event_id": self.table.event_id,
            "batch_id": self.source.batch_ids[self.table.file],
            "sensor_count": self._sensor_count,
            "hlc_sensor_count": self._hlc_sensor_count,
            **self.table.truth(),
        }
        self._of_events = {name: EVENT_DTYPES.get(name, "<i8") for name in columns}
        for name, column in columns.items():
            np.save(self.folder / f"{name}.npy", column.astype(self._of_events[name]), allow_pickle=False)
        self.source.geometry.write_csv(self.folder / GEOMETRY)

    def write_header(self, shuffled: bool, seed: int) -> dict[str, Any]:
        """The header, last of all; returns what was done."""
        n_bytes = sum(path.stat().st_size for path in self.folder.iterdir())
        done = {
            "n_events": len(self.table),
            "n_pulses": int(self.begin[-1]),
            "n_empty": self.source.n_empty,
            "n_all_auxiliary": self._n_all_auxiliary,
            "shuffled": shuffled,
        }
        header = {
            "version": VERSION,
            **done,
            "seed": seed if shuffled else None,
            "columns": {**self.dtypes, **self._of_events},
            "position_sha256": position_sha256(self.source.geometry),
            "source": self.source.identity(),
            "notes": list(self.source.notes),
        }
        (self.folder / HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        return {**done, "bytes": n_bytes}

    def _look_at(self, events: PulseEvents, position: NDArray[np.int64]) -> None:
        n_sensors = len(self.source.geometry)
        in_hlc = distinct_sensors(events, n_sensors, ~events.auxiliary)
        self._sensor_count[position] = distinct_sensors(events, n_sensors)
        self._hlc_sensor_count[position] = in_hlc
        self._n_all_auxiliary += int((in_hlc == 0).sum())

    def _append(self, events: PulseEvents, position: NDArray[np.int64]) -> None:
        """Appends events, by ascending position, to their shards; a loop over shards."""
        shard = self._shard[position]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(shard)) + 1, [len(shard)]])
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            k = int(shard[first])
            rows = slice(int(events.begin[first]), int(events.begin[last]))
            for name in PULSE_COLUMNS:
                with self._shard_file(k, name).open("ab") as file:
                    file.write(getattr(events, name)[rows].astype(self.dtypes[name]).tobytes())
            self._arrived.setdefault(k, []).append(position[first:last])

    def _shard_as_it_came(self, shard: int, arrived: NDArray[np.int64]) -> PulseEvents:
        begin = np.concatenate([[0], np.cumsum(self.table.pulse_count[arrived])])
        columns = {name: np.fromfile(self._shard_file(shard, name), dtype=self.dtypes[name]) for name in PULSE_COLUMNS}
        short = next((name for name, column in columns.items() if len(column) != begin[-1]), None)
        if short is not None:
            raise DataError(f"{self._shard_file(shard, short)}: was cut short while packing. Is the disk full?")
        return PulseEvents(event_id=self.table.event_id[arrived], begin=begin, **columns)

    def _shard_file(self, shard: int, name: str) -> Path:
        return self.folder / _SHARDS / f"{shard}.{name}"
