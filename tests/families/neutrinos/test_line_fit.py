from __future__ import annotations

import itertools

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.neutrinos.angles import angle_between
from stablelit.families.neutrinos.line_fit import constant_direction, line_fit


def ragged(counts, seed=0):
    rng = np.random.default_rng(seed)
    begin = np.concatenate([[0], np.cumsum(counts)])
    position = rng.normal(0, 300, (begin[-1], 3)).astype(np.float32)
    time = rng.uniform(0, 5000, begin[-1]).astype(np.float32)
    return position, time, rng.random(begin[-1]) < 0.4, begin


def slope_of(position, time, use):
    """By numpy's least squares, one event at a time."""
    use = use if use.sum() >= 2 else np.ones_like(use)
    if len(time) == 0 or np.ptp(time[use]) == 0:
        return np.zeros(3)
    velocity = np.polyfit(time[use].astype(float), position[use].astype(float), 1)[0]
    return -velocity / np.linalg.norm(velocity)


def test_the_fit_is_the_slope_of_least_squares_of_the_pulses_that_count():
    counts = np.array([0, 40, 2, 0, 0, 7, 1, 200, 3, 0])
    position, time, use, begin = ragged(counts)
    use[begin[2]], use[begin[2] + 1] = True, False  # one of two: both are taken
    use[begin[5] : begin[6]] = False  # none of seven: all are taken
    found = line_fit(position, time, use, begin)
    spans = [slice(a, b) for a, b in itertools.pairwise(begin)]
    np.testing.assert_allclose(found, [slope_of(position[s], time[s], use[s]) for s in spans], atol=1e-9)
    assert (found[counts < 2] == 0).all()
    assert (np.linalg.norm(found[counts >= 2], axis=1) > 0.999).all()


def test_a_track_is_seen_to_come_from_its_source():
    rng = np.random.default_rng(3)
    source = np.array([0.48, -0.6, 0.64])
    time = np.sort(rng.uniform(0, 4000, 50))
    position = 100.0 - 0.3 * time[:, None] * source
    found = line_fit(position, time, np.ones(50, dtype=bool), np.array([0, 50]))
    np.testing.assert_allclose(found[0], source, atol=1e-12)


def test_a_fit_does_not_depend_on_when_the_clock_began_where_the_origin_is_and_what_is_beside_it():
    position, time, use, begin = ragged([30, 20, 25])
    alone = line_fit(position, time, use, begin)
    later = line_fit(position.astype(float) + 2000.0, time.astype(float) + 1e7, use, begin)
    np.testing.assert_allclose(later, alone, atol=1e-6)
    middle = line_fit(position, time, use, begin[1:3])
    np.testing.assert_allclose(middle, alone[1:2], atol=1e-12)


def test_an_event_without_a_spread_of_time_or_place_has_no_line():
    # three times 0.1 have a mean that is not 0.1
    time = np.array([0.1, 0.1, 0.1, 0.0, 0.1, 0.1, 0.1, 5.0, 6.0, 7.0])
    use = np.array([True] * 3 + [False] + [True] * 6)
    position = np.random.default_rng(0).normal(size=(10, 3)) * 100
    position[7:] = 3.25
    found = line_fit(position, time, use, np.array([0, 3, 7, 10]))
    assert (found == 0).all()
    assert line_fit(position[:0], time[:0], use[:0], np.array([0])).shape == (0, 3)
    assert (line_fit(position[:0], time[:0], use[:0], np.array([0, 0, 0])) == 0).all()


def test_nan_in_a_pulse_shows_in_its_event_and_nowhere_else():
    position, time, use, begin = ragged([30, 20, 25])
    use[:] = True
    expected = line_fit(position, time, use, begin)
    position[35, 1] = np.nan
    found = line_fit(position, time, use, begin)
    assert np.isnan(found[1]).any()
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


def test_what_does_not_belong_together_is_refused():
    position, time, use, begin = ragged([5, 5])
    with pytest.raises(DataError, match=r"time \(9,\)"):
        line_fit(position, time[:9], use, begin)
    with pytest.raises(DataError, match=r"use \(10,\) int64"):
        line_fit(position, time, use.astype(np.int64), begin)
    for wrong in ([0, 5, 11], [0, 6, 5], [-1, 5, 10], []):
        with pytest.raises(DataError, match="for 10 pulses"):
            line_fit(position, time, use, np.array(wrong, dtype=np.int64))


def test_the_constant_has_the_largest_mean_cosine():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(400, 3)) + np.array([0.5, -0.3, 0.4])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    best = constant_direction(directions)
    assert np.linalg.norm(best) == pytest.approx(1.0)
    others = rng.normal(size=(300, 3))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert (directions @ best).mean() > (directions @ others.T).mean(axis=0).max()
    assert angle_between(np.broadcast_to(best, directions.shape), directions).mean() < np.pi / 2
    np.testing.assert_array_equal(constant_direction(np.array([[1.0, 0, 0], [-1.0, 0, 0]])), [0, 0, 1])


def test_a_constant_of_nothing_is_refused():
    with pytest.raises(DataError, match=r"shape \(0, 3\)"):
        constant_direction(np.zeros((0, 3)))
    with pytest.raises(DataError, match="event 1 is"):
        constant_direction(np.array([[0, 0, 1.0], [0, np.nan, 1.0]]))
