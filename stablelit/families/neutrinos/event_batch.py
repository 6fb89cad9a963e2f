"""A batch of events: pulses grouped by sensor, summaries of sensors and events, and the truth; without a loop.

A batch is a plain dict. B events, D sensors that they hit, P pulses:

=================  ==========  ================================================================================
``id``             (B,)        place of each event among all that the data module keeps
``event_id``       (B,)        as in the file
``pulses``         (P, 7)      x, y, z (500 m), time (us), log10 charge, auxiliary, DeepCore
``sensors``        (D, 10)     x, y, z (500 m), first time (us), log10 charge, standard deviation of the times (us),
                               log2 pulses, share of auxiliary pulses, DeepCore, mean time (us)
``events``         (B, 9)      line fit (unit vector towards the source), mean position of HLC pulses weighted by charge
                               (500 m), log10 charge, log10 pulses, log10(1 + HLC pulses)
pulses_of_sensor   (D,)        pulses of each sensor
event_of_sensor    (D,)        its event, 0 to B - 1
sensors_of_event   (B,)        sensors of each event
``class_order``    (D,)        sensors by size class: 1, 2, 3-4, 5-8, ... pulses
``class_sizes``    list        ints: sensors of each class; class k has up to 2^k pulses
``longest``        int         most sensors of an event; ``longest_pulses`` most pulses
sensor_places      (B,)        `longest`, for whoever counts padding
``pulse_count``    (B,)        pulses of each event before anything was cut
``direction``      (B, 3)      unit vector towards where the neutrino came from, where the truth is known
``energy``         (B,)        log10 GeV, where it is known; ``is_track`` likewise, 0 or 1
=================  ==========  ================================================================================

Sensors lie in the order of (event, first time), pulses in that of (sensor, time). Times are relative to the event's
first HLC pulse. Ints of Python say what has to be known on the host, so that a model on a GPU need not wait for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stablelit.families.neutrinos.line_fit import line_fit
from stablelit.families.neutrinos.pulse_events import PulseEvents, rows_of

POSITION = slice(0, 3)
PULSE_TIME, PULSE_CHARGE, PULSE_AUXILIARY, PULSE_DEEP_CORE = 3, 4, 5, 6
SENSOR_FIRST_TIME, SENSOR_CHARGE, SENSOR_TIME_SPREAD, SENSOR_COUNT = 3, 4, 5, 6
SENSOR_AUXILIARY, SENSOR_DEEP_CORE, SENSOR_MEAN_TIME = 7, 8, 9
EVENT_LINE_FIT, EVENT_CENTRE = slice(0, 3), slice(3, 6)
EVENT_CHARGE, EVENT_PULSES, EVENT_HLC = 6, 7, 8
N_PULSE_FEATURES, N_SENSOR_FEATURES, N_EVENT_FEATURES = 7, 10, 9

METRES, NANOSECONDS = 500.0, 1000.0
"""The units of positions and times in a batch."""

Batch = dict[str, Any]


def assemble(
    events: PulseEvents,
    places: NDArray[np.int64],
    position: NDArray[np.float32],
    deep_core: NDArray[np.bool_],
    max_pulses: int = 512,
    max_pulses_per_sensor: int = 64,
) -> Batch:
    """The batch of some events, each with one pulse at least.

    Of more than `max_pulses` pulses HLC ones are kept first and auxiliary ones fill what is left; where not all of a
    kind find a place, those kept are spread evenly over its order in time. Of a sensor's pulses the first
    `max_pulses_per_sensor` are kept.

    Args:
        events: B events.
        places: ``(B,)``, what becomes ``id``.
        position: ``(S, 3)`` of the detector's sensors, m.
        deep_core: ``(S,)``, which are DeepCore's, whose efficiency is higher.
        max_pulses: of an event.
        max_pulses_per_sensor: of a sensor in an event.
    """
    n = len(events)
    counts = events.pulse_count
    event = np.repeat(np.arange(n), counts)
    hlc = ~events.auxiliary
    n_hlc = np.bincount(event, weights=hlc, minlength=n).astype(np.int64)
    reference = _reference_time(events, event, hlc, n_hlc)
    charge_sum = np.bincount(event, weights=events.charge, minlength=n)
    fit = line_fit(position[events.sensor], events.time, hlc, events.begin)
    centre = _centre(events, event, hlc, n_hlc, position)

    kept = within_cap(events.auxiliary, events.begin, n_hlc, max_pulses)
    if kept is not None:
        event = event[kept]
    rows = slice(None) if kept is None else kept
    sensor, time = events.sensor[rows].astype(np.int64), events.time[rows]
    charge, auxiliary = events.charge[rows], events.auxiliary[rows]

    order, first, per_sensor = _by_sensor(event, sensor, time, len(position), max_pulses_per_sensor)
    event, sensor = event[order], sensor[order]
    time = (time[order] - reference[event]) / NANOSECONDS
    charge, auxiliary = charge[order], auxiliary[order]
    log_charge = np.log10(charge)
    where = position / METRES

    pulses = np.empty((len(order), N_PULSE_FEATURES), dtype=np.float32)
    pulses[:, POSITION] = where[sensor]
    pulses[:, PULSE_TIME], pulses[:, PULSE_CHARGE] = time, log_charge
    pulses[:, PULSE_AUXILIARY], pulses[:, PULSE_DEEP_CORE] = auxiliary, deep_core[sensor]

    of_sensor = sensor[first]
    event_of_sensor = event[first]
    delay = time - np.repeat(time[first], per_sensor)
    mean_delay = np.add.reduceat(delay, first) / per_sensor
    spread = delay - np.repeat(mean_delay, per_sensor)
    sensors = np.empty((len(first), N_SENSOR_FEATURES), dtype=np.float32)
    sensors[:, POSITION] = where[of_sensor]
    sensors[:, SENSOR_FIRST_TIME] = time[first]
    sensors[:, SENSOR_CHARGE] = np.log10(np.add.reduceat(charge, first))
    sensors[:, SENSOR_TIME_SPREAD] = np.sqrt(np.add.reduceat(spread * spread, first) / per_sensor)
    sensors[:, SENSOR_COUNT] = np.log2(per_sensor)
    sensors[:, SENSOR_AUXILIARY] = np.add.reduceat(auxiliary.astype(np.float32), first) / per_sensor
    sensors[:, SENSOR_DEEP_CORE] = deep_core[of_sensor]
    sensors[:, SENSOR_MEAN_TIME] = time[first] + mean_delay

    summary = np.empty((n, N_EVENT_FEATURES), dtype=np.float32)
    summary[:, EVENT_LINE_FIT] = fit
    summary[:, EVENT_CENTRE] = centre / METRES
    summary[:, EVENT_CHARGE] = np.log10(charge_sum)
    summary[:, EVENT_PULSES] = np.log10(counts)
    summary[:, EVENT_HLC] = np.log10(1 + n_hlc)

    # ceil(log2 n): frexp's exponent of n - 1, exact
    size_class = np.frexp((per_sensor - 1).astype(np.float64))[1].astype(np.uint8)
    sensors_of_event = np.bincount(event_of_sensor, minlength=n)
    longest = int(sensors_of_event.max())
    arrays = {
        "id": np.asarray(places, dtype=np.int64),
        "event_id": events.event_id,
        "pulses": pulses,
        "sensors": sensors,
        "events": summary,
        "pulses_of_sensor": per_sensor,
        "event_of_sensor": event_of_sensor,
        "sensors_of_event": sensors_of_event,
        "class_order": np.argsort(size_class, kind="stable"),
        "sensor_places": np.full(n, longest),
        "pulse_count": counts,
    }
    if (direction := events.direction) is not None:
        arrays["direction"] = direction
    if events.energy is not None:
        arrays["energy"] = np.log10(events.energy)
    if events.is_track is not None:
        arrays["is_track"] = events.is_track.astype(np.float32)
    batch: Batch = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
    batch["class_sizes"] = np.bincount(size_class).tolist()
    batch["longest"] = longest
    batch["longest_pulses"] = int(np.bincount(event, minlength=n).max())
    return batch


def within_cap(
    auxiliary: NDArray[np.bool_], begin: NDArray[np.int64], n_hlc: NDArray[np.int64], max_pulses: int
) -> NDArray[np.int64] | None:
    """The rows of pulses that are kept, HLC before auxiliary; None where all are.

    Args:
        auxiliary: ``(P,)``.
        begin: ``(B + 1,)``, where events begin.
        n_hlc: ``(B,)``, HLC pulses of each event.
        max_pulses: of an event.
    """
    counts = np.diff(begin)
    long = np.flatnonzero(counts > max_pulses)
    if not len(long):
        return None
    keep = np.ones(begin[-1], dtype=bool)
    rows, offsets = rows_of(begin, long)
    event = np.repeat(np.arange(len(long)), np.diff(offsets))
    flag = auxiliary[rows]
    hlc_places = np.minimum(n_hlc[long], max_pulses)
    for kind, places, total in (
        (False, hlc_places, n_hlc[long]),
        (True, max_pulses - hlc_places, counts[long] - n_hlc[long]),
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


def _reference_time(
    events: PulseEvents, event: NDArray[np.int64], hlc: NDArray[np.bool_], n_hlc: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Time of each event's first HLC pulse, of its first pulse where it has none, ``(B,)``."""
    reference = events.time[events.begin[:-1]].copy()
    where = np.flatnonzero(hlc)
    first = np.searchsorted(where, events.begin[:-1])
    has = n_hlc > 0
    reference[has] = events.time[where[first[has]]]
    return reference


def _centre(
    events: PulseEvents,
    event: NDArray[np.int64],
    hlc: NDArray[np.bool_],
    n_hlc: NDArray[np.int64],
    position: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Mean position of HLC pulses (all, where there are none), weighted by their charge, m, ``(B, 3)``."""
    weight = events.charge * (hlc | (n_hlc == 0)[event])
    where = position[events.sensor]
    n = len(events)
    total = np.bincount(event, weights=weight, minlength=n)
    return (
        np.stack([np.bincount(event, weights=weight * where[:, i], minlength=n) for i in range(3)], 1) / total[:, None]
    )


def _by_sensor(
    event: NDArray[np.int64],
    sensor: NDArray[np.int64],
    time: NDArray[np.float32],
    n_sensors: int,
    max_pulses_per_sensor: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pulses by (event, sensor in order of its first time, time): their order, where sensors begin, their pulses."""
    key = event * n_sensors + sensor
    by_key = np.argsort(key, kind="stable")
    sorted_key = key[by_key]
    first = np.flatnonzero(np.diff(sorted_key, prepend=-1))
    # times since the event's first pulse are not negative: their bits are in the order of their values
    bits = time[by_key[first]].astype(np.float32).view(np.int32).astype(np.int64)
    turn = np.argsort((event[by_key[first]] << 32) | bits, kind="stable")
    begin = np.append(first, len(by_key))
    rows, offsets = rows_of(begin, turn)
    counts = np.diff(offsets)
    if counts.max() > max_pulses_per_sensor:
        rank = np.arange(len(rows)) - np.repeat(offsets[:-1], counts)
        rows = rows[rank < max_pulses_per_sensor]
        counts = np.minimum(counts, max_pulses_per_sensor)
        offsets = np.concatenate([[0], np.cumsum(counts)])
    return by_key[rows], offsets[:-1], counts
