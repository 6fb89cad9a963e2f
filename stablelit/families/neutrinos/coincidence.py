"""Hard local coincidence (HLC): which pulses have another one near them on their string, within a microsecond."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablelit.families.neutrinos.geometry import DetectorGeometry

HLC_NEIGHBOURS, HLC_WINDOW_NS = 2, 1000


def places_on_strings(geometry: DetectorGeometry) -> NDArray[np.int64]:
    """One number a sensor, ``(S,)``: neighbours on a string differ by 1, sensors of two strings by more than two.

    Sensors of a string are ordered from the top (equally high ones by their sensor_id).
    """
    order = np.lexsort((-geometry.position[:, 2], geometry.string))
    new_string = np.diff(geometry.string[order], prepend=geometry.string[order[0]]) != 0
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) + HLC_NEIGHBOURS * np.cumsum(new_string)
    return places


def in_coincidence(
    event: NDArray[np.int64], place: NDArray[np.int64], time: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which pulses have a pulse of their event in one of the next two sensors up or down, at most 1000 ns away.

    Args:
        event: ``(P,)`` the number of each pulse's event.
        place: ``(P,)`` the place of its sensor, as `places_on_strings` has it.
        time: ``(P,)`` whole ns.

    Returns:
        The order ``(P,)`` of the pulses by (event, place, time), and whether each is in coincidence, in that order.
    """
    if not len(event):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    # one number a pulse, in which the window around a pulse never reaches another sensor's pulses
    earliest = time.min()
    span = int(time.max() - earliest) + HLC_WINDOW_NS + 1
    sensors = int(place.max()) + HLC_NEIGHBOURS + 1
    key = (event * sensors + place) * span + (time - earliest)
    order = np.argsort(key, kind="stable")
    key = key[order]
    found = np.zeros(len(key), dtype=bool)
    padded = np.append(key, np.iinfo(np.int64).max)
    for step in (*range(-HLC_NEIGHBOURS, 0), *range(1, HLC_NEIGHBOURS + 1)):
        wanted = key + step * span
        found |= padded[np.searchsorted(key, wanted - HLC_WINDOW_NS)] <= wanted + HLC_WINDOW_NS
    return order, found
