"""What is known of events before a pulse is read: which file they are in, how many pulses they have, and the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.neutrinos.pulse_events import EVENT_COLUMNS, PulseEvents

TRUTH_COLUMNS = tuple(name for name in EVENT_COLUMNS if name != "event_id")


@dataclass(frozen=True)
class EventTable:
    """E events.

    Args:
        event_id: ``(E,)`` int64.
        file: ``(E,)`` int32, the place of each event's file among the files of its source.
        pulse_count: ``(E,)`` int64, 1 or more.
        azimuth: ``(E,)`` float64, rad; None where the truth is not known. Likewise the others, as in `PulseEvents`.
        zenith: ``(E,)`` float64, rad.
        energy: ``(E,)`` float32, GeV.
        is_track: ``(E,)`` bool.
    """

    event_id: NDArray[np.int64]
    file: NDArray[np.int32]
    pulse_count: NDArray[np.int64]
    azimuth: NDArray[np.float64] | None = None
    zenith: NDArray[np.float64] | None = None
    energy: NDArray[np.float32] | None = None
    is_track: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.event_id)

    @property
    def n_pulses(self) -> int:
        """Pulses of all events."""
        return int(self.pulse_count.sum())

    @property
    def has_truth(self) -> bool:
        """Whether the directions are known."""
        return self.azimuth is not None and self.zenith is not None

    def take(self, indices: NDArray[np.int64] | Sequence[int]) -> EventTable:
        """Some of the events, in the order of `indices`."""
        chosen = np.asarray(indices, dtype=np.int64)
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return EventTable(**{name: None if c is None else c[chosen] for name, c in columns.items()})

    def truth(self, indices: Any = slice(None)) -> dict[str, NDArray[Any]]:
        """The columns of the truth that are known, of some events."""
        columns = {name: getattr(self, name) for name in TRUTH_COLUMNS}
        return {name: column[indices] for name, column in columns.items() if column is not None}

    def mean_direction(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float64] | None:
        """The unit vector ``(3,)`` along the mean of the directions: the best constant answer; None without truth."""
        if self.azimuth is None or self.zenith is None:
            return None
        chosen: Any = slice(None) if indices is None else indices
        azimuth, zenith = self.azimuth[chosen], self.zenith[chosen]
        flat = np.sin(zenith)
        mean = np.array([(np.cos(azimuth) * flat).mean(), (np.sin(azimuth) * flat).mean(), np.cos(zenith).mean()])
        length = float(np.linalg.norm(mean))
        return mean / length if length > 0 else np.array([0.0, 0.0, 1.0])

    def fingerprint(self) -> str:
        """SHA-256 of ids, pulse counts and directions: equal for equal events in an equal order."""
        digest = hashlib.sha256()
        for name in ("event_id", "pulse_count", "azimuth", "zenith"):
            column = getattr(self, name)
            digest.update(name.encode() if column is None else np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def validate(self, where: str) -> EventTable:
        """The table itself, if it can be.

        Raises:
            DataError: no events, an event twice, an angle out of range, an energy that is not finite and positive.
        """
        if not len(self):
            raise DataError(f"{where}: has no event with a pulse. Allowed: one or more.")
        empty: NDArray[Any] = np.empty(0)
        no_pulses = PulseEvents(
            event_id=self.event_id,
            begin=np.zeros(len(self) + 1, dtype=np.int64),
            time=empty,
            charge=empty,
            sensor=empty.astype(np.uint16),
            auxiliary=empty.astype(bool),
            azimuth=self.azimuth,
            zenith=self.zenith,
        )
        no_pulses.validate(1, where)
        if self.energy is not None:
            bad = ~(np.isfinite(self.energy) & (self.energy > 0))
            if bad.any():
                at = int(np.argmax(bad))
                raise DataError(
                    f"{where}: event {int(self.event_id[at])}: energy is {self.energy[at]} ({int(bad.sum())} of "
                    f"{len(self)} are such). Allowed: finite and above 0 (GeV). Mend it, or drop the column."
                )
        return self
