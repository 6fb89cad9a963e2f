"""Events of a store as batches, made a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from stablelit.errors import DataError
from stablelit.families.neutrinos.event_batch import Batch, assemble
from stablelit.families.neutrinos.event_store import EventStore
from stablelit.families.neutrinos.geometry import DetectorGeometry
from stablelit.functional.schedules import check_count

EVENTS_A_CHUNK = 4096
"""Of packed events and of one file; where there are files, a chunk is one."""


class EventDataset(Dataset[Batch]):
    """Some events of a store; `__getitems__` gathers and assembles a whole batch without a loop over events.

    Args:
        store: of the events.
        rows: which events of the store, in order; those of a file should lie together.
        places: what becomes `id`, one for each of `rows`.
        geometry: the detector.
        max_pulses: of an event; see `assemble`.
        max_pulses_per_sensor: of a sensor in an event.
        max_auxiliary: auxiliary pulses of an event that has HLC ones; None does not limit them.
        sensor_count: distinct sensors of the store's events that are used, where they are known.

    Attributes:
        chunk_sizes: events of each file, or of each stretch of a packed folder.
        cache_size: files that the store keeps; None where none is read again.
        lengths: tokens of each event, ``(n,)``: its sensors, or where only files are there at most its pulses.

    Raises:
        ConfigurationError: an argument outside its range.
        DataError: no events.
    """

    def __init__(
        self,
        store: EventStore,
        rows: Sequence[int] | NDArray[np.int64],
        places: Sequence[int] | NDArray[np.int64],
        geometry: DetectorGeometry,
        max_pulses: int = 512,
        max_pulses_per_sensor: int = 64,
        max_auxiliary: int | None = None,
        sensor_count: NDArray[np.int64] | None = None,
    ) -> None:
        self.store = store
        self.rows, self.places = np.asarray(rows, dtype=np.int64), np.asarray(places, dtype=np.int64)
        if not len(self.rows):
            raise DataError("EventDataset: has no event. Allowed: one or more.")
        self.geometry = geometry
        self.max_pulses = check_count("EventDataset", "max_pulses", max_pulses, 1)
        self.max_pulses_per_sensor = check_count("EventDataset", "max_pulses_per_sensor", max_pulses_per_sensor, 1)
        self.max_auxiliary = max_auxiliary
        if max_auxiliary is not None:
            check_count("EventDataset", "max_auxiliary", max_auxiliary, 0)
        tokens = store.table.pulse_count if sensor_count is None else sensor_count
        self.lengths: NDArray[np.int64] = np.minimum(tokens[self.rows], self.max_pulses)
        self.cache_size = store.cache_size
        self.chunk_sizes = _chunk_sizes(store, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one event."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} events")
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = np.asarray(indices, dtype=np.int64)
        events = self.store.gather(self.rows[chosen])
        where = self.geometry.position, self.geometry.deep_core
        most = self.max_pulses, self.max_pulses_per_sensor, self.max_auxiliary
        return assemble(events, self.places[chosen], *where, *most)

    @property
    def chunk_loads(self) -> int:
        """Files read so far, where they are read again and again."""
        return self.store.loads


def already_a_batch(batch: Batch) -> Batch:
    """The collate function that goes with `EventDataset`: its batches are made already."""
    return batch


def _chunk_sizes(store: EventStore, rows: NDArray[np.int64]) -> list[int]:
    files = store.table.file[rows]
    edges = np.flatnonzero(np.diff(files)) + 1
    if store.policy == "memmap" or not len(edges) or (np.diff(files) < 0).any():
        edges = np.arange(EVENTS_A_CHUNK, len(rows), EVENTS_A_CHUNK)
    return np.diff(np.concatenate([[0], edges, [len(rows)]])).tolist()  # type: ignore[no-any-return]
