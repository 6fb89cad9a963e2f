"""Events of pulses in columns: what generator, readers and packed files all speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError

PULSE_COLUMNS = ("time", "charge", "sensor", "auxiliary")
EVENT_COLUMNS = ("event_id", "azimuth", "zenith", "energy", "is_track")
# what a pulse takes in memory and in a packed file: float32 time and charge, a 16-bit sensor, a byte
BYTES_PER_PULSE = 11


@dataclass(frozen=True)
class PulseEvents:
    """E events and their P pulses. Pulses of an event lie together, sorted by time.

    Args:
        event_id: ``(E,)`` int64.
        begin: ``(E + 1,)`` int64; the pulses of event i are rows ``begin[i]`` to ``begin[i + 1] - 1``.
        time: ``(P,)`` float32, ns since the event's first pulse. Only differences matter, and float32 holds those.
        charge: ``(P,)`` float32, photoelectrons.
        sensor: ``(P,)`` uint16 or int32, a row of the geometry.
        auxiliary: ``(P,)`` bool; False is a pulse in hard local coincidence (HLC): fully digitised, in the trigger.
        azimuth: ``(E,)`` float64, rad in [0, 2 pi); where the neutrino came from. None where the truth is not known.
        zenith: ``(E,)`` float64, rad in [0, pi].
        energy: ``(E,)`` float32, GeV; None where it is not known.
        is_track: ``(E,)`` bool; None where it is not known.
    """

    event_id: NDArray[np.int64]
    begin: NDArray[np.int64]
    time: NDArray[np.float32]
    charge: NDArray[np.float32]
    sensor: NDArray[Any]
    auxiliary: NDArray[np.bool_]
    azimuth: NDArray[np.float64] | None = None
    zenith: NDArray[np.float64] | None = None
    energy: NDArray[np.float32] | None = None
    is_track: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.event_id)

    @property
    def pulse_count(self) -> NDArray[np.int64]:
        """Pulses of each event, ``(E,)``."""
        return np.diff(self.begin)

    @property
    def direction(self) -> NDArray[np.float32] | None:
        """Unit vectors ``(E, 3)`` towards where the neutrinos came from; None without truth."""
        if self.azimuth is None or self.zenith is None:
            return None
        flat = np.sin(self.zenith)
        parts = (np.cos(self.azimuth) * flat, np.sin(self.azimuth) * flat, np.cos(self.zenith))
        return np.stack(parts, axis=1).astype(np.float32)

    def take(self, indices: NDArray[np.int64] | Sequence[int]) -> PulseEvents:
        """Some of the events, in the order of `indices`, in one gather."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows, begin = rows_of(self.begin, chosen)
        pulses = {name: gathered(getattr(self, name), rows) for name in PULSE_COLUMNS}
        of_events = {name: None if (c := getattr(self, name)) is None else c[chosen] for name in EVENT_COLUMNS}
        return PulseEvents(begin=begin, **pulses, **of_events)

    @staticmethod
    def concatenate(parts: Sequence[PulseEvents]) -> PulseEvents:
        """The events of all parts one after the other; a column is kept where every part has it."""
        if not parts:
            raise ValueError("parts is empty; allowed: one or more PulseEvents.")
        pulses = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PULSE_COLUMNS}
        of_events = {
            name: None
            if any(getattr(part, name) is None for part in parts)
            else np.concatenate([getattr(part, name) for part in parts])
            for name in EVENT_COLUMNS
        }
        begin = np.concatenate([[0], np.cumsum(np.concatenate([part.pulse_count for part in parts]))])
        return PulseEvents(begin=begin.astype(np.int64), **pulses, **of_events)

    def without_truth(self) -> PulseEvents:
        """The same pulses, as a file without truth has them."""
        return replace(self, azimuth=None, zenith=None, energy=None, is_track=None)

    def validate(self, geometry_size: int, where: str) -> PulseEvents:
        """The events themselves, if all their numbers can be.

        Args:
            geometry_size: sensors of the detector.
            where: of what, for messages.

        Raises:
            DataError: a sensor outside the geometry, a charge that is not finite and positive, a time that is not
                finite, an angle out of range, an event twice.
        """
        n = geometry_size
        self._refuse(self.sensor >= n, "sensor", where, f"0 to {n - 1}", "Is it the geometry of another detector?")
        if np.issubdtype(self.sensor.dtype, np.signedinteger):
            self._refuse(self.sensor < 0, "sensor", where, f"0 to {n - 1}", "Mend the file.")
        good = np.isfinite(self.charge) & (self.charge > 0)
        self._refuse(
            ~good, "charge", where, "finite and above 0 (photoelectrons)", "Leave such pulses out of the file."
        )
        self._refuse(~np.isfinite(self.time), "time", where, "finite (ns)", "Leave such pulses out of the file.")
        for name, top in (("azimuth", 2 * np.pi), ("zenith", np.pi)):
            angle = getattr(self, name)
            if angle is not None:
                # written with six digits, an angle may lie just above its bound
                bad = ~((angle >= 0) & (angle <= top + 1e-5))
                self._refuse(bad, name, where, f"0 to {top:.6f} rad", "Degrees, or a missing truth?", of_events=True)
        ids, counts = np.unique(self.event_id, return_counts=True)
        if len(ids) < len(self):
            twice = int(ids[np.argmax(counts > 1)])
            rows = np.flatnonzero(self.event_id == twice)[:2].tolist()
            raise DataError(
                f"{where}: event_id {twice} is there {int(counts.max())} times (events {rows[0]} and {rows[1]}; "
                f"{int((counts > 1).sum())} such ids). Allowed: once. Drop the duplicates."
            )
        return self

    def _refuse(
        self, bad: NDArray[np.bool_], column: str, where: str, allowed: str, remedy: str, of_events: bool = False
    ) -> None:
        if not bad.any():
            return
        at = int(np.argmax(bad))
        event = at if of_events else int(np.searchsorted(self.begin, at, side="right")) - 1
        place = f"event {int(self.event_id[event])}" + ("" if of_events else f", pulse {at - int(self.begin[event])}")
        raise DataError(
            f"{where}: {place}: {column} is {getattr(self, column)[at]} ({int(bad.sum())} of {len(bad)} are such). "
            f"Allowed: {allowed}. {remedy}"
        )


def gathered(column: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """``column[rows]``, for rows that are known to be inside; a third of the time, since none is checked."""
    return column.take(rows, axis=0, mode="clip")


def rows_of(begin: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of some events one after the other, and where each begins among them.

    Args:
        begin: ``(E + 1,)``, where the events begin.
        chosen: ``(B,)``, which of them.

    Returns:
        Rows ``(P,)`` and their offsets ``(B + 1,)``.
    """
    counts = begin[chosen + 1] - begin[chosen]
    offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return np.arange(offsets[-1]) + np.repeat(begin[chosen] - offsets[:-1], counts), offsets
