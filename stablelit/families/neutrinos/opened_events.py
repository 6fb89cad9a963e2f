"""Events that are open: the source, which of its events are for what, and where their pulses lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.neutrinos.dataset import EventDataset
from stablelit.families.neutrinos.event_store import Cache, EventStore, choose_store
from stablelit.families.neutrinos.readers import EventSource
from stablelit.families.neutrinos.splits import SPLITS, Share, split_events
from stablelit.families.neutrinos.told import reading_bar, say


@dataclass(frozen=True)
class Storing:
    """How events are kept and cut.

    Args:
        cache: where pulses lie; see `event_store`.
        cache_files: files that ``cache="files"`` keeps.
        memory_limit_gb: up to how much ``cache="auto"`` keeps in memory, GB.
        max_pulses: of an event; see `assemble`.
        max_pulses_per_sensor: of a sensor in an event.
        max_auxiliary: of an event that has HLC pulses; None does not limit them.
    """

    cache: Cache
    cache_files: int
    memory_limit_gb: float
    max_pulses: int
    max_pulses_per_sensor: int
    max_auxiliary: int | None = None

    @property
    def most(self) -> tuple[int, int, int | None]:
        """The three limits in the order of `assemble`."""
        return self.max_pulses, self.max_pulses_per_sensor, self.max_auxiliary

    def store(self, source: EventSource, indices: NDArray[np.int64]) -> EventStore:
        """A store for some events of a source; says which, and what was found in the pulses that were read."""
        with reading_bar(len(np.unique(source.table.file[indices]))) as progress:
            store = choose_store(source, indices, self.cache, self.cache_files, self.memory_limit_gb, say, progress)
        n_cut = int((store.table.pulse_count > self.max_pulses).sum())
        if n_cut:
            say(
                f"{n_cut} of {len(indices)} events have more than max_pulses={self.max_pulses} pulses, up to "
                f"{int(store.table.pulse_count.max())}: HLC pulses are kept first."
            )
        if self.max_auxiliary is not None:
            self._tell_of_auxiliary(store)
        if n := source.n_all_auxiliary:
            say(f"{n} events have no HLC pulse: all their pulses are used.")
        if n := source.n_unsorted:
            say(f"the pulses of {n} events were not in the order of their times: sorted.")
        return store

    def _tell_of_auxiliary(self, store: EventStore) -> None:
        limit = (
            f"max_auxiliary={self.max_auxiliary}: further auxiliary pulses of events that have HLC ones are left out"
        )
        hit, used = store.sensor_count(), store.sensor_count(self.max_auxiliary)
        if hit is None or used is None:
            say(f"{limit}.")
        elif (n_left := int(used.sum())) < int(hit.sum()):
            at_most = "at most " if self.max_auxiliary else ""
            say(f"{limit}; {at_most}{n_left} of the {hit.sum()} sensors that were hit are left.")


@dataclass(frozen=True)
class OpenedEvents:
    """Events with a truth, split.

    Args:
        source: where they come from.
        splits: places of the events of each split in its table, ascending.
        kept: places of all of them together, ascending.
        store: of the kept ones.
        storing: how they are kept and cut.
    """

    source: EventSource
    splits: dict[str, NDArray[np.int64]]
    kept: NDArray[np.int64]
    store: EventStore
    storing: Storing

    @cached_property
    def sensor_count(self) -> NDArray[np.int64] | None:
        """Distinct sensors of the kept events that are used; None where that would cost reading the files."""
        return self.store.sensor_count(self.storing.max_auxiliary)

    @property
    def n_cut(self) -> int:
        """Kept events of more pulses than are used."""
        return int((self.store.table.pulse_count > self.storing.max_pulses).sum())

    def dataset(self, split: str) -> EventDataset:
        """The events of a split."""
        places = self.splits[split]
        rows = np.searchsorted(self.kept, places)
        most = self.storing.most
        return EventDataset(self.store, rows, places, self.source.geometry, *most, sensor_count=self.sensor_count)

    def identity(self) -> dict[str, Any]:
        """What data these are, and how they are used."""
        return {
            **self.source.identity(),
            "cache": self.store.policy,
            "max_pulses": self.storing.max_pulses,
            "max_pulses_per_sensor": self.storing.max_pulses_per_sensor,
            "max_auxiliary": self.storing.max_auxiliary,
            "n_empty": self.source.n_empty,
            "n_cut": self.n_cut,
            "splits": {name: len(places) for name, places in self.splits.items()},
        }


def tell_of(source: EventSource) -> None:
    """Says what a user should know of a source, and what it leaves out."""
    for note in source.notes:
        say(f"{source.path}: {note}.")
    if source.n_empty:
        say(f"left out {source.n_empty} events without a pulse; {len(source.table)} are left.")


def open_split(
    source: EventSource,
    storing: Storing,
    shares: Mapping[str, Share],
    batch_ids: Mapping[str, Sequence[int]] | None,
    max_events: int | None,
    seed: int,
) -> OpenedEvents:
    """Splits the events of a source and opens a store for those that are used.

    Args:
        source: of the events.
        storing: how they are kept and cut.
        shares: of each split; see `split_events`, also for what follows.
        batch_ids: of each split, or None.
        max_events: of the training split, or None.
        seed: of a split at random.

    Raises:
        DataError: the source has no truth.
        ConfigurationError: splits that need more than there is.
    """
    tell_of(source)
    if not source.table.has_truth:
        raise DataError(
            f"{source.path}: has no azimuth and zenith, which training and tests need. Data without truth can only be "
            f"predicted: a Kaggle folder's test/ files with predict_on=files."
        )
    splits = split_events(source.batch_ids[source.table.file], shares, batch_ids, max_events, seed)
    say(f"{splits.note}; {', '.join(f'{len(splits.indices[name])} {name}' for name in SPLITS)} events.")
    kept = np.sort(np.concatenate([splits.indices[name] for name in SPLITS]))
    return OpenedEvents(source, splits.indices, kept, storing.store(source, kept), storing)
