from __future__ import annotations

import math
import random

import pytest

from stablelit.functional.trends import change_of, falls, mann_kendall_z, noise_of, rises


def test_the_statistic_is_that_of_the_definition_written_out():
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    s = 0
    for i in range(8):
        for k in range(i + 1, 8):
            s += 1 if values[k] > values[i] else -1 if values[k] < values[i] else 0
    assert mann_kendall_z(values) == pytest.approx((s - 1) / math.sqrt(8 * 7 * 21 / 18))
    assert mann_kendall_z([-v for v in values]) == pytest.approx(-mann_kendall_z(values))
    assert mann_kendall_z([1.0]) == 0.0


def test_of_noise_the_sum_of_signs_has_its_known_variance():
    draw = random.Random(0)
    z = [mann_kendall_z([draw.gauss(0, 1) for _ in range(12)]) for _ in range(2000)]
    mean = sum(z) / len(z)
    assert mean == pytest.approx(0.0, abs=0.08)
    # without the correction for continuity, which takes 1 off |S|
    s = [0.0 if v == 0 else abs(v) * math.sqrt(12 * 11 * 29 / 18) + 1.0 for v in z]
    assert sum(v * v for v in s) / len(s) == pytest.approx(12 * 11 * 29 / 18, rel=0.1)


def test_the_noise_about_a_trend_is_found_and_the_trend_is_not_counted():
    draw = random.Random(1)
    values = [3.0 * i + draw.gauss(0, 0.5) for i in range(2000)]
    assert noise_of(values) == pytest.approx(0.5, rel=0.1)
    assert noise_of([1.0]) == 0.0


def test_a_trend_is_seen_and_noise_is_not():
    draw = random.Random(2)
    rising = [0.2 * i + draw.gauss(0, 0.1) for i in range(12)]
    assert rises(rising)
    assert falls([-v for v in rising])
    assert not falls(rising)
    assert not rises([1.0] * 12)
    assert change_of([0.0, 0.0, 5.0, 5.0, 7.0, 7.0]) == 7.0
    assert sum(rises([draw.gauss(0, 1) for _ in range(12)]) for _ in range(2000)) <= 4
