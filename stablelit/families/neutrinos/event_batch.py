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

What is known of sensors and events is known of all their pulses; ``pulses`` has those that the caps keep, and sensors
of which none is kept are left out. Sensors lie in the order of (event, first time), pulses in that of (sensor, time).
Times are relative to the event's first HLC pulse. Ints of Python say what has to be known on the host, so that a model
on a GPU need not wait for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stablelit.families.neutrinos.line_fit import line_through_sums
from stablelit.families.neutrinos.pulse_events import PulseEvents, gathered
from stablelit.families.neutrinos.pulse_groups import by_sensor, kept_pulses

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
    max_auxiliary: int | None = None,
) -> Batch:
    """The batch of some events, each with one pulse at least.

    Of a sensor's pulses the first `max_pulses_per_sensor` are kept. Of more than `max_pulses` of these in an event,
    HLC ones are kept first and auxiliary ones fill what is left; where not all of a kind find a place, those kept are
    spread evenly over its order in time.

    Args:
        events: B events.
        places: ``(B,)``, what becomes ``id``.
        position: ``(S, 3)`` of the detector's sensors, m.
        deep_core: ``(S,)``, which are DeepCore's, whose efficiency is higher.
        max_pulses: of an event.
        max_pulses_per_sensor: of a sensor in an event.
        max_auxiliary: auxiliary ones of an event that has HLC ones; None takes as many as find a place.
    """
    n = len(events)
    event = np.repeat(np.arange(n), events.pulse_count)
    n_hlc = np.bincount(event, weights=~events.auxiliary, minlength=n).astype(np.int64)
    reference = _reference_time(events, n_hlc)
    order, counts = by_sensor(event, events.sensor, events.time, len(position))
    keep = kept_pulses(events, order, counts, max_pulses, max_pulses_per_sensor, max_auxiliary)

    # pulses by sensor are still by event
    sensor, reference = gathered(events.sensor, order), np.repeat(reference, events.pulse_count)
    time = (gathered(events.time, order) - reference) / NANOSECONDS
    charge, auxiliary = gathered(events.charge, order), gathered(events.auxiliary, order)
    first = np.cumsum(counts) - counts
    where = position / METRES
    of_sensor, event_of_sensor = sensor[first], event[first]
    sensors = _of_sensors(where[of_sensor], deep_core[of_sensor], time, charge, auxiliary, counts, first)
    summary = _of_events(event, n_hlc, where[of_sensor], event_of_sensor, first, time, charge, auxiliary)
    if keep is not None:
        counts = np.add.reduceat(keep, first, dtype=np.int64)
        left = counts > 0
        sensors, event_of_sensor, counts = sensors[left], event_of_sensor[left], counts[left]
        kept = np.flatnonzero(keep)
        event, sensor, time = gathered(event, kept), gathered(sensor, kept), gathered(time, kept)
        charge, auxiliary = gathered(charge, kept), gathered(auxiliary, kept)

    pulses = np.empty((len(time), N_PULSE_FEATURES), dtype=np.float32)
    pulses[:, POSITION] = gathered(where, sensor)
    pulses[:, PULSE_TIME], pulses[:, PULSE_CHARGE] = time, np.log10(charge)
    pulses[:, PULSE_AUXILIARY], pulses[:, PULSE_DEEP_CORE] = auxiliary, gathered(deep_core, sensor)

    # ceil(log2 n): frexp's exponent of n - 1, exact
    size_class = np.frexp((counts - 1).astype(np.float64))[1].astype(np.uint8)
    sensors_of_event = np.bincount(event_of_sensor, minlength=n)
    longest = int(sensors_of_event.max())
    arrays = {
        "id": np.asarray(places, dtype=np.int64),
        "event_id": events.event_id,
        "pulses": pulses,
        "sensors": sensors,
        "events": summary,
        "pulses_of_sensor": counts,
        "event_of_sensor": event_of_sensor,
        "sensors_of_event": sensors_of_event,
        "class_order": np.argsort(size_class, kind="stable"),
        "sensor_places": np.full(n, longest),
        "pulse_count": events.pulse_count,
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


def _of_sensors(
    where: NDArray[np.float32],
    deep_core: NDArray[np.bool_],
    time: NDArray[np.float32],
    charge: NDArray[np.float32],
    auxiliary: NDArray[np.bool_],
    counts: NDArray[np.int64],
    first: NDArray[np.int64],
) -> NDArray[np.float32]:
    """``(D, 10)``; of `counts` pulses each from `first` on, one sensor after another, in order of time."""
    delay = time - np.repeat(time[first], counts)
    mean_delay = np.add.reduceat(delay, first) / counts
    spread = delay - np.repeat(mean_delay, counts)
    sensors = np.empty((len(first), N_SENSOR_FEATURES), dtype=np.float32)
    sensors[:, POSITION] = where
    sensors[:, SENSOR_FIRST_TIME] = time[first]
    sensors[:, SENSOR_CHARGE] = np.log10(np.add.reduceat(charge, first))
    sensors[:, SENSOR_TIME_SPREAD] = np.sqrt(np.add.reduceat(spread * spread, first) / counts)
    sensors[:, SENSOR_COUNT] = np.log2(counts)
    sensors[:, SENSOR_AUXILIARY] = np.add.reduceat(auxiliary, first, dtype=np.float32) / counts
    sensors[:, SENSOR_DEEP_CORE] = deep_core
    sensors[:, SENSOR_MEAN_TIME] = time[first] + mean_delay
    return sensors


def _of_events(
    event: NDArray[np.int64],
    n_hlc: NDArray[np.int64],
    where: NDArray[np.float32],
    event_of_sensor: NDArray[np.int64],
    first: NDArray[np.int64],
    time: NDArray[np.float32],
    charge: NDArray[np.float32],
    auxiliary: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """``(B, 9)``, by sums over each sensor's pulses first: there are several times fewer sensors."""
    n, hlc = len(n_hlc), ~auxiliary
    begin = np.searchsorted(event_of_sensor, np.arange(n))
    summary = np.empty((n, N_EVENT_FEATURES), dtype=np.float32)

    # as in `line_fit`, of all pulses where fewer than two are HLC
    counts = (hlc | gathered(n_hlc < 2, event)).astype(np.float32)
    timed = counts * time
    number, total, squares = (
        np.add.reduceat(values, first, dtype=np.float64) for values in (counts, timed, timed * time)
    )
    summary[:, EVENT_LINE_FIT] = line_through_sums(number, total, squares, where, begin)

    # of all pulses, where none is HLC
    weight = np.add.reduceat(charge * (hlc | gathered(n_hlc == 0, event)), first, dtype=np.float64)
    centre = np.add.reduceat(where * weight[:, None], begin) / np.add.reduceat(weight, begin)[:, None]
    summary[:, EVENT_CENTRE] = centre
    summary[:, EVENT_CHARGE] = np.log10(np.add.reduceat(np.add.reduceat(charge, first, dtype=np.float64), begin))
    summary[:, EVENT_PULSES] = np.log10(np.bincount(event, minlength=n))
    summary[:, EVENT_HLC] = np.log10(1 + n_hlc)
    return summary


def _reference_time(events: PulseEvents, n_hlc: NDArray[np.int64]) -> NDArray[np.float32]:
    """Time of each event's first HLC pulse, of its first pulse where it has none, ``(B,)``."""
    reference = events.time[events.begin[:-1]].copy()
    hlc = np.flatnonzero(~events.auxiliary)
    has = n_hlc > 0
    reference[has] = events.time[hlc[np.searchsorted(hlc, events.begin[:-1][has])]]
    return reference
