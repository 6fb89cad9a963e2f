"""Pulses of events by sensor, and which of them are kept where there are too many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.families.neutrinos.pulse_events import PulseEvents, gathered, rows_of


def by_sensor(
    event: NDArray[np.int64], sensor: NDArray[Any], time: NDArray[np.float32], n_sensors: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pulses by (event, sensor in order of its first time, time): their order ``(P,)``, and each sensor's ``(D,)``.

    Args:
        event: ``(P,)``, rising.
        sensor: ``(P,)``, 0 to S - 1.
        time: ``(P,)`` since the event's first pulse, rising within an event.
        n_sensors: S.
    """
    key = event * n_sensors + sensor
    # one after the other by 16 bits, which are radix sorts: half the time of one sort by the whole key
    by_key = np.argsort(sensor, kind="stable")
    short = event.astype(np.uint16) if event[-1] < 1 << 16 else event
    by_key = gathered(by_key, np.argsort(gathered(short, by_key), kind="stable"))
    first = np.flatnonzero(np.diff(gathered(key, by_key), prepend=-1))
    # times since the event's first pulse are not negative: their bits are in the order of their values
    bits = time[by_key[first]].astype(np.float32).view(np.int32).astype(np.int64)
    turn = np.argsort((event[by_key[first]] << 32) | bits, kind="stable")
    rows, offsets = rows_of(np.append(first, len(by_key)), turn)
    return gathered(by_key, rows), np.diff(offsets)


def kept_pulses(
    events: PulseEvents,
    order: NDArray[np.int64],
    counts: NDArray[np.int64],
    max_pulses: int,
    max_pulses_per_sensor: int,
    max_auxiliary: int | None = None,
) -> NDArray[np.bool_] | None:
    """Which pulses are kept, ``(P,)`` in the order of `order`; None where all are.

    Of a sensor the first in time, and of an event then as `within_cap` says.

    Args:
        events: B events.
        order: ``(P,)`` of `by_sensor`.
        counts: ``(D,)`` of `by_sensor`.
        max_pulses: of an event.
        max_pulses_per_sensor: of a sensor in an event.
        max_auxiliary: see `within_cap`.
    """
    keep = None
    if counts.max() > max_pulses_per_sensor:
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        keep = np.empty(len(order), dtype=bool)
        keep[order] = rank < max_pulses_per_sensor
    rows = np.arange(len(order)) if keep is None else np.flatnonzero(keep)
    begin = np.searchsorted(rows, events.begin)
    within = within_cap(gathered(events.auxiliary, rows), begin, max_pulses, max_auxiliary)
    if within is not None:
        keep = np.zeros(len(order), dtype=bool)
        keep[rows[within]] = True
    return None if keep is None else gathered(keep, order)


def within_cap(
    auxiliary: NDArray[np.bool_], begin: NDArray[np.int64], max_pulses: int, max_auxiliary: int | None = None
) -> NDArray[np.int64] | None:
    """The rows of pulses that are kept, HLC before auxiliary; None where all are.

    Where not all of a kind find a place, those kept are spread evenly over its order.

    Args:
        auxiliary: ``(P,)``.
        begin: ``(B + 1,)``, where events begin.
        max_pulses: of an event.
        max_auxiliary: auxiliary ones of an event that has HLC ones; None takes as many as find a place.
    """
    counts = np.diff(begin)
    n_auxiliary = np.diff(np.concatenate([[0], np.cumsum(auxiliary)])[begin])
    most = np.full(len(counts), max_pulses)
    if max_auxiliary is not None:
        most[n_auxiliary < counts] = min(max_auxiliary, max_pulses)
    if max_auxiliary == 0 and (n_auxiliary > most).any():
        # all of a kind go: those that stay need no places among their like
        stay = np.flatnonzero(~auxiliary | np.repeat(most > 0, counts))
        within = within_cap(gathered(auxiliary, stay), np.searchsorted(stay, begin), max_pulses)
        return stay if within is None else stay[within]
    long = np.flatnonzero((counts > max_pulses) | (n_auxiliary > most))
    if not len(long):
        return None
    keep = np.ones(begin[-1], dtype=bool)
    rows, offsets = rows_of(begin, long)
    event = np.repeat(np.arange(len(long)), np.diff(offsets))
    flag = auxiliary[rows]
    n_hlc = np.bincount(event, weights=~flag, minlength=len(long)).astype(np.int64)
    hlc_places = np.minimum(n_hlc, max_pulses)
    for kind, places, total in (
        (False, hlc_places, n_hlc),
        (True, np.minimum(max_pulses - hlc_places, most[long]), counts[long] - n_hlc),
    ):
        mine = flag == kind
        before = np.cumsum(mine) - mine
        rank = before - before[offsets[:-1]][event]
        m, of = places[event], np.maximum(total, 1)[event]
        # row r of `of` is kept where floor(r m / of) steps up: m of them, evenly spread, the first among them
        even = ((rank * m + of - 1) // of) != (((rank + 1) * m + of - 1) // of)
        # all of a kind that has places enough
        keep[rows[mine]] = (even | (m >= of))[mine] & (m > 0)[mine]
    return np.flatnonzero(keep)
