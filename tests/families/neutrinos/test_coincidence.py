from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.neutrinos.coincidence import in_coincidence, places_on_strings
from stablelit.families.neutrinos.geometry import DetectorGeometry, hexagonal_detector

STRINGS, LENGTH = 3, 6


def two_loops(event, string, rank, time):
    n = len(event)
    found = np.zeros(n, bool)
    for i in range(n):
        for j in range(n):
            near = event[i] == event[j] and string[i] == string[j] and abs(rank[i] - rank[j]) in (1, 2)
            found[i] |= near and abs(time[i] - time[j]) <= 1000
    return found


def small_detector():
    """Sensors of three strings in an order that says nothing of height or string."""
    rank = np.tile(np.arange(LENGTH), STRINGS)
    string = np.repeat(np.arange(STRINGS), LENGTH)
    mixed = np.random.default_rng(0).permutation(len(rank))
    rank, string = rank[mixed], string[mixed]
    position = np.stack([string * 100.0, string * 0.0, -17.0 * rank], axis=1)
    return DetectorGeometry.of_positions(position), string, rank


@pytest.mark.parametrize("seed", range(4))
def test_the_flags_are_those_of_two_nested_loops(seed):
    geometry, string, rank = small_detector()
    rng = np.random.default_rng(seed)
    n = 150
    event, sensor = rng.integers(4, size=n), rng.integers(len(geometry), size=n)
    # steps of 500 ns: many pairs at the edge of the window, and pulses at one time
    time = 500 * rng.integers(-8, 12, size=n)
    order, found = in_coincidence(event, places_on_strings(geometry)[sensor], time)
    expected = two_loops(event, string[sensor], rank[sensor], time)
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(found, expected[order])


def test_the_window_includes_a_microsecond_and_no_more():
    place = np.array([5, 6])
    for apart, is_near in ((1000, True), (1001, False)):
        assert in_coincidence(np.zeros(2, int), place, np.array([0, apart]))[1].all() == is_near


def test_two_pulses_of_one_sensor_are_no_coincidence():
    assert not in_coincidence(np.zeros(2, int), np.array([5, 5]), np.array([0, 10]))[1].any()


def test_no_pulses_are_no_coincidence():
    order, found = in_coincidence(*np.zeros((3, 0), int))
    assert len(order) == len(found) == 0


def test_neighbours_are_those_next_to_each_other_on_a_string():
    geometry = hexagonal_detector()
    places = places_on_strings(geometry)
    assert len(np.unique(places)) == 5160
    same_string = geometry.string[1:] == geometry.string[:-1]
    assert (np.diff(places)[same_string] == 1).all()
    # of two strings the nearest places differ by three
    assert (np.diff(places)[~same_string] == 3).all()
