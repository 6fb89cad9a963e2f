"""Where pulses lie while a model trains: in memory, in a memory map, or in files of which some are kept.

A store gathers the events of a batch in one go, without a loop over events. `choose_store` picks one:

=========  =====================================  ==================================================================
policy     pulses lie                             good for
=========  =====================================  ==================================================================
memory     in arrays, 11 B a pulse                whatever fits: every order costs the same
memmap     in a packed folder                     what does not: every order costs the same once it is on a fast disk
files      in the files, the last few are kept    no packing; an order that jumps between files reads a file per event
auto       packed: memmap; below the limit:       says which, why, and with which numbers
           memory; otherwise files
=========  =====================================  ==================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.neutrinos.event_table import EventTable
from stablelit.families.neutrinos.pulse_events import BYTES_PER_PULSE, PULSE_COLUMNS, PulseEvents, rows_of
from stablelit.families.neutrinos.readers import EventSource, PackedFolder

Cache = Literal["auto", "memory", "files", "memmap"]
Say = Callable[[str], None]

_CELLS = 1 << 24


class EventStore(ABC):
    """E events of which any may be asked for.

    Attributes:
        table: the events.
        cache_size: files that are kept; None where no file is read again.
        loads: files read so far, counted where they are read again and again.
    """

    policy: str
    table: EventTable
    cache_size: int | None = None
    loads: int = 0

    @abstractmethod
    def gather(self, indices: NDArray[np.int64]) -> PulseEvents:
        """The events at these places of the table, in that order."""

    def sensor_count(self, max_auxiliary: int | None = None) -> NDArray[np.int64] | None:
        """Distinct sensors of each event, ``(E,)``; None where that would cost reading the files.

        Args:
            max_auxiliary: auxiliary pulses that are used of an event that has HLC ones, where that is limited. The
                answer is then an upper limit: those pulses may be of one sensor.
        """
        return None


class MemoryStore(EventStore):
    """All pulses in arrays.

    Args:
        source: whose files are read, one after the other.
        indices: which events of its table; the others' pulses are dropped as their file was read.
        progress: called with the number of files read.
    """

    policy = "memory"

    def __init__(self, source: EventSource, indices: NDArray[np.int64], progress: Callable[[int], None]) -> None:
        self.table = source.table.take(indices)
        self._n_sensors = len(source.geometry)
        places = places_in_file(source.table.file)[indices]
        gathering = _Gathering(self.table)
        for n_read, file in enumerate(np.unique(self.table.file).tolist(), start=1):
            mine = np.flatnonzero(self.table.file == file)
            gathering.take(source.read(file), places[mine], mine)
            progress(n_read)
        self.events = gathering.events()

    def gather(self, indices: NDArray[np.int64]) -> PulseEvents:
        """The events at these places of the table, in that order."""
        return self.events.take(indices)

    def sensor_count(self, max_auxiliary: int | None = None) -> NDArray[np.int64]:
        """Distinct sensors of each event, ``(E,)``; see `EventStore.sensor_count`."""
        counts = self._distinct_sensors
        return counts if max_auxiliary is None else sensors_within(counts, self._distinct_hlc_sensors, max_auxiliary)

    @cached_property
    def _distinct_sensors(self) -> NDArray[np.int64]:
        return distinct_sensors(self.events, self._n_sensors)

    @cached_property
    def _distinct_hlc_sensors(self) -> NDArray[np.int64]:
        return distinct_sensors(self.events, self._n_sensors, ~self.events.auxiliary)


class PackedStore(EventStore):
    """Pulses in a packed folder, memory-mapped.

    Args:
        source: the folder.
        indices: which events of its table.
    """

    policy = "memmap"

    def __init__(self, source: PackedFolder, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.table = source.table.take(indices)
        self._places = source.places[indices]
        self._sensor_count = source.sensor_count[indices].astype(np.int64)
        self._hlc_sensor_count = source.hlc_sensor_count[indices].astype(np.int64)

    def gather(self, indices: NDArray[np.int64]) -> PulseEvents:
        """The events at these places of the table, in that order."""
        return self.source.take(self._places[indices])

    def sensor_count(self, max_auxiliary: int | None = None) -> NDArray[np.int64]:
        """Distinct sensors of each event, ``(E,)``; see `EventStore.sensor_count`."""
        if max_auxiliary is None:
            return self._sensor_count
        return sensors_within(self._sensor_count, self._hlc_sensor_count, max_auxiliary)


class FileStore(EventStore):
    """Pulses in files, of which those used last are kept.

    Reading events in a random order with fewer files kept than there are reads a file for nearly every event; `loads`
    counts them, and a `ShuffleSampler` with ``mode="block"`` avoids it.

    Args:
        source: of the files.
        indices: which events of its table.
        cache_size: files kept.

    Raises:
        ConfigurationError: a cache of no file.
    """

    policy = "files"

    def __init__(self, source: EventSource, indices: NDArray[np.int64], cache_size: int) -> None:
        if isinstance(cache_size, bool) or not isinstance(cache_size, int) or cache_size < 1:
            raise bad_argument("FileStore", "cache_size", cache_size, "an int of 1 or more (files)")
        self.source, self.cache_size = source, cache_size
        self.table = source.table.take(indices)
        self._places = places_in_file(source.table.file)[indices]
        self._kept: OrderedDict[int, PulseEvents] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # a worker that is spawned reads its own files
        return {**self.__dict__, "_kept": OrderedDict()}

    def gather(self, indices: NDArray[np.int64]) -> PulseEvents:
        """The events at these places of the table, in that order; loops over files, not over events."""
        files = self.table.file[indices]
        wanted = np.unique(files).tolist()
        # those at hand first: they must not be dropped for those that are not
        wanted.sort(key=lambda file: file not in self._kept)
        if len(wanted) == 1:
            return self._file(wanted[0]).take(self._places[indices])
        gathering = _Gathering(self.table.take(indices))
        for file in wanted:
            mine = np.flatnonzero(files == file)
            gathering.take(self._file(file), self._places[indices[mine]], mine)
        return gathering.events()

    def _file(self, file: int) -> PulseEvents:
        if file in self._kept:
            self._kept.move_to_end(file)
            return self._kept[file]
        self.loads += 1
        assert self.cache_size is not None
        # make room before reading: the file that is dropped and the new one are not in memory together
        while len(self._kept) >= self.cache_size:
            self._kept.popitem(last=False)
        self._kept[file] = self.source.read(file)
        return self._kept[file]


def choose_store(
    source: EventSource,
    indices: NDArray[np.int64],
    cache: Cache,
    cache_files: int,
    memory_limit_gb: float,
    say: Say,
    progress: Callable[[int], None] = lambda n: None,
) -> EventStore:
    """The store for some events of a source, and why it was chosen.

    Args:
        source: of the events.
        indices: which of its table will be used.
        cache: the policy.
        cache_files: files that "files" keeps.
        memory_limit_gb: up to how much "auto" keeps in memory.
        say: is told the choice.
        progress: called with the number of files read into memory.

    Raises:
        ConfigurationError: a memory map of events that are not packed, files of events that are.
    """
    if cache not in get_args(Cache):
        raise bad_argument("choose_store", "cache", cache, ", ".join(get_args(Cache)))
    n_events, pulses = len(indices), int(source.table.pulse_count[indices].sum())
    gigabytes = pulses * BYTES_PER_PULSE / 1e9
    what = f"{n_events} events, {pulses} pulses, {gigabytes:.3g} GB at {BYTES_PER_PULSE} B a pulse"
    packed = isinstance(source, PackedFolder)
    if cache == "memmap" and not packed:
        raise ConfigurationError(
            f"{source.path}: cache=memmap needs packed events. Pack them with `python -m stablelit.prepare neutrinos "
            f"path={source.path} output=FOLDER` and give path=FOLDER, or choose memory or files."
        )
    if cache == "files" and packed:
        raise ConfigurationError(f"{source.path}: packed events have no files to keep. Choose memmap or memory.")
    why = ""
    if cache == "auto":
        fits = gigabytes <= memory_limit_gb
        cache = "memmap" if packed else "memory" if fits else "files"
        reasons = {
            "memmap": "they are packed",
            "memory": f"that is within memory_limit_gb={memory_limit_gb:g}",
            "files": f"that is above memory_limit_gb={memory_limit_gb:g}; `python -m stablelit.prepare neutrinos` "
            f"packs them, so that every order is fast",
        }
        why = f" (cache=auto: {reasons[cache]})"
    if cache == "memmap":
        assert isinstance(source, PackedFolder)
        say(f"{what}: memory-mapped from {source.path}{why}.")
        return PackedStore(source, indices)
    if cache == "memory":
        say(f"{what}: read into memory{why}.")
        return MemoryStore(source, indices, progress)
    n_files = len(np.unique(source.table.file[indices]))
    say(f"{what}: read from {n_files} files as they are needed, {cache_files} kept{why}.")
    return FileStore(source, indices, cache_files)


def distinct_sensors(events: PulseEvents, n_sensors: int, use: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """How many sensors each event has hit, ``(E,)``; by the pulses of `use` ``(P,)`` alone, where it is given."""
    counts = np.empty(len(events), dtype=np.int64)
    step = max(1, _CELLS // n_sensors)
    for at in range(0, len(events), step):
        begin = events.begin[at : at + step + 1]
        hit = np.zeros((len(begin) - 1, n_sensors), dtype=bool)
        event, sensor = np.repeat(np.arange(len(begin) - 1), np.diff(begin)), events.sensor[begin[0] : begin[-1]]
        if use is not None:
            chosen = use[begin[0] : begin[-1]]
            event, sensor = event[chosen], sensor[chosen]
        hit[event, sensor] = True
        counts[at : at + step] = np.count_nonzero(hit, axis=1)
    return counts


def sensors_within(counts: NDArray[np.int64], in_hlc: NDArray[np.int64], max_auxiliary: int) -> NDArray[np.int64]:
    """Sensors ``(E,)`` that at most so many auxiliary pulses leave, of all and of those with an HLC pulse."""
    return np.where(in_hlc > 0, np.minimum(in_hlc + max_auxiliary, counts), counts)


def places_in_file(file: NDArray[np.int32]) -> NDArray[np.int64]:
    """Each event's place among the events of its file, ``(E,)``."""
    order = np.argsort(file, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(file[order], file[order])
    return place


class _Gathering:
    """Events that come from several files, written once, each to where it belongs."""

    def __init__(self, table: EventTable) -> None:
        self.table = table
        self.begin = np.concatenate([[0], np.cumsum(table.pulse_count)])
        self._columns: dict[str, NDArray[Any]] = {}

    def take(self, events: PulseEvents, places: NDArray[np.int64], to: NDArray[np.int64]) -> None:
        rows_in, _ = rows_of(events.begin, places)
        rows_out, _ = rows_of(self.begin, to)
        for name in PULSE_COLUMNS:
            column = getattr(events, name)
            if name not in self._columns:
                self._columns[name] = np.empty(self.begin[-1], dtype=column.dtype)
            self._columns[name][rows_out] = column[rows_in]

    def events(self) -> PulseEvents:
        return PulseEvents(event_id=self.table.event_id, begin=self.begin, **self._columns, **self.table.truth())
