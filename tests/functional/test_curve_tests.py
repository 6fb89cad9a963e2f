"""Tests for curves, each derived a second time by counting, by simulation, or from an identity."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from stablelit.functional.curve_tests import (
    autocorrelation_time,
    comes_back,
    course_of,
    cusum,
    cusum_run_length,
    is_flat,
    sign_change_rate,
    spike_z,
    theil_sen,
)
from stablelit.functional.trends import noise_of

SEEDS = [f"seed-{i}" for i in range(4)]


def noise(seed: str, n: int) -> np.ndarray:
    return np.random.default_rng(int(seed.rpartition("-")[2])).normal(size=n)


@pytest.mark.parametrize("seed", SEEDS)
def test_theil_sen_is_the_median_of_all_slopes_and_turns_with_the_data(seed: str) -> None:
    values = noise(seed, 11)
    slopes = [(values[k] - values[i]) / (k - i) for i, k in itertools.combinations(range(11), 2)]
    slope, low, high = theil_sen(values)
    assert slope == pytest.approx(statistics.median(slopes))
    assert low <= slope <= high
    turned, turned_low, turned_high = theil_sen(3.0 - 2.0 * values)
    assert (turned, turned_low, turned_high) == pytest.approx((-2.0 * slope, -2.0 * high, -2.0 * low))


def test_sens_interval_holds_the_true_slope_about_nineteen_times_in_twenty() -> None:
    draws = np.random.default_rng(0).normal(size=(400, 12)) + 0.3 * np.arange(12)
    held = [low <= 0.3 <= high for _, low, high in map(theil_sen, draws)]
    assert 0.92 <= np.mean(held) <= 0.99


def test_autocorrelation_time_of_an_autoregression_is_the_geometric_sum() -> None:
    # x_t = a x_{t-1} + e has rho_l = a^l, so tau = 1/2 + a / (1 - a)
    rng, a = np.random.default_rng(1), 0.7
    found = []
    for _ in range(20):
        values = np.zeros(512)
        for t in range(1, 512):
            values[t] = a * values[t - 1] + rng.normal()
        found.append(autocorrelation_time(values))
    assert np.mean(found) == pytest.approx(0.5 + a / (1 - a), rel=0.25)
    assert np.mean([autocorrelation_time(rng.normal(size=512)) for _ in range(20)]) == pytest.approx(0.5, abs=0.15)


def test_a_trend_is_no_correlation() -> None:
    values = noise("seed-3", 400) + np.linspace(0.0, 30.0, 400)
    assert autocorrelation_time(values) < 1.0
    assert noise_of(values.tolist()) == pytest.approx(1.0, rel=0.2)


def test_cusum_is_the_recursion() -> None:
    z = noise("seed-1", 200) + 0.2
    total = 0.0
    for value in z:
        total = max(0.0, total + value - 0.5)
    assert cusum(z) == pytest.approx(total)


def test_cusum_run_length_is_that_of_a_simulation() -> None:
    rng, lengths = np.random.default_rng(2), []
    for _ in range(300):
        total, steps = 0.0, 0
        while total <= 3.0:
            block = rng.normal(size=256)
            for value in block:
                total, steps = max(0.0, total + value - 0.5), steps + 1
                if total > 3.0:
                    break
        lengths.append(steps)
    assert cusum_run_length(3.0) == pytest.approx(float(np.mean(lengths)), rel=0.25)
    assert cusum_run_length(15.0) > 1e7


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6], ids=["micro", "one", "mega"])
def test_flatness_is_shown_and_does_not_depend_on_the_scale(scale: float) -> None:
    quiet, loud = 0.01 * noise("seed-0", 12), noise("seed-0", 12)
    assert is_flat(scale * (5.0 + quiet), scale * 0.1)
    assert not is_flat(scale * (5.0 + loud), scale * 0.1), "noise that hides a trend is no plateau"
    assert not is_flat(scale * (5.0 + quiet + 0.02 * np.arange(12)), scale * 0.1)


def test_sign_changes_of_noise_of_a_trend_and_of_a_zigzag() -> None:
    # of three exchangeable values the middle one is an extreme in four of six orders
    assert sign_change_rate(noise("seed-2", 4000)) == pytest.approx(2 / 3, abs=0.03)
    assert sign_change_rate(np.arange(9.0)) == 0.0
    assert sign_change_rate(np.resize([0.0, 1.0], 9)) == 1.0


def test_a_spike_is_judged_by_what_was_before_it_alone() -> None:
    values = noise("seed-0", 200)
    values[150] = 20.0
    before = values[86:150]
    middle = statistics.median(before)
    deviation = 1.4826 * statistics.median(abs(v - middle) for v in before)
    assert spike_z(values, 150) == pytest.approx((20.0 - middle) / deviation)
    assert abs(spike_z(values, 151)) < 5.0, "the spike in the window does not hide or make another"
    assert spike_z(values, 10) == 0.0
    assert comes_back(values, 150) is True
    assert comes_back(values[:152].copy(), 151) is None
    values[150:] = 20.0
    assert comes_back(values, 150) is False


@pytest.mark.parametrize("seed", SEEDS)
def test_the_error_of_a_block_is_the_spread_of_blocks(seed: str) -> None:
    values = 7.0 + noise(seed, 1200)
    course = course_of(np.arange(1200.0), values)
    assert len(course.blocks) == 12
    assert course.block_noise == pytest.approx(math.sqrt(math.pi / 2 / 100), rel=0.25)
    assert float(np.std(course.blocks)) == pytest.approx(course.block_noise, rel=0.6)
    assert abs(course.late - 7.0) < 4 * course.late_noise


def test_blocks_of_a_slow_swing_are_longer_than_those_of_noise() -> None:
    steps = np.arange(100.0)
    # the sum of cos(2 pi l / 32) up to its first zero, and a half: tau is about 5
    swing = course_of(steps, np.sin(2 * np.pi * steps / 32) + 0.05 * noise("seed-0", 100))
    assert 3.5 < swing.tau < 7.0
    assert len(swing.blocks) < len(course_of(steps, noise("seed-0", 100)).blocks) == 12
    assert 100 // len(swing.blocks) >= 2 * swing.tau


def test_a_long_run_has_the_course_of_a_short_one() -> None:
    n = 60_000
    values = 3.0 * np.exp(-np.arange(n) / 8_000) + 0.1 * noise("seed-0", n)
    long = course_of(np.arange(float(n)), values)
    short = course_of(np.arange(float(n))[::20], values[::20])
    assert long.blocks == pytest.approx(short.blocks, abs=0.05)
    assert long.late == pytest.approx(short.late, abs=0.05)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 17], ids=["one", "two", "three", "five", "seventeen"])
def test_few_points_have_a_course_too(n: int) -> None:
    course = course_of(np.arange(float(n)), np.linspace(2.0, 1.0, n) if n > 1 else np.ones(1))
    assert course.points == n
    assert math.isfinite(course.late_noise)
    assert math.isfinite(course.trend)
