from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.neutrinos.geometry import hexagonal_detector
from stablelit.families.neutrinos.readers.sensor_places import SensorFinder, detector_of, distinct


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0.0, 1948.07])
def test_the_nearest_sensor_is_found_from_the_centre_and_from_the_surface(depth):
    places = hexagonal_detector().position.astype(np.float64)
    rng = np.random.default_rng(0)
    sensor = rng.integers(0, 5160, 700)
    position = places[sensor] + rng.uniform(-0.4, 0.4, (700, 3)) - [0, 0, depth]
    find = SensorFinder(places)
    assert find(position, "x").tolist() == sensor.tolist()
    # what was found is known, in any order and beside what is new
    more = rng.integers(0, 5160, 50)
    assert find(np.concatenate([position[::-1], places[more]]), "x").tolist() == [*sensor[::-1], *more]


def test_a_position_between_sensors_is_refused_with_its_distance():
    places = np.array([[0.0, 0, 0], [0, 0, 17]])
    with pytest.raises(DataError, match=r"x: a pulse lies at \[0\.0, 0\.0, 5\.0\] m, 5\.0 m from the nearest of 2"):
        SensorFinder(places)(np.array([[0.0, 0, 0.5], [0, 0, 5]]), "x")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_position_that_is_not_finite_is_refused_with_its_row(bad):
    position = np.array([[0.0, 0, 0], [0, bad, 0]])
    for find in (lambda: distinct(position, "x"), lambda: SensorFinder(np.zeros((1, 3)))(position, "x")):
        with pytest.raises(DataError, match=r"x: row 1: the position is \[0\.0, (nan|inf), 0\.0\]"):
            find()


def test_distinct_positions_are_those_to_the_millimetre_from_the_top():
    position = np.array([[1.0, 2, -5], [1, 2, 5], [1.0001, 2, 5], [1, 2, -5], [-3, 0, 1]])
    assert distinct(position, "x").tolist() == [[-3, 0, 1], [1, 2, 5], [1, 2, -5]]
    detector, places, told = detector_of(position - [0, 0, 3000], "x")
    assert places[:, 2].tolist() == [-2999, -2995, -3005]
    assert detector.position == pytest.approx(places - (places.min(0) + places.max(0)) / 2)
    assert "the 3 distinct positions of pulses are taken as the sensors, moved by" in told
