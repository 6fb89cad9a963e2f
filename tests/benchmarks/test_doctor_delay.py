"""The oracle of the doctor's delay: from when on a loss curve is another than those of healthy runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.doctor_delay import IN_A_ROW, SMOOTHED, band, seen_from, smoothed


def healthy(seed: int, n: int = 200) -> list[float]:
    drawn = np.random.default_rng(seed)
    return list(np.exp(-np.arange(n) / 50) + 0.05 * drawn.normal(size=n))


HEALTHY = [healthy(seed) for seed in range(3)]


def test_a_healthy_run_of_the_band_is_never_seen():
    assert [seen_from(losses, HEALTHY) for losses in HEALTHY] == [None, None, None]


@pytest.mark.parametrize("begin", [20, 60, 120])
def test_a_fault_is_seen_half_a_median_after_it_begins(begin):
    losses = healthy(7)
    losses[begin:] = [value + 1.0 for value in losses[begin:]]
    assert seen_from(losses, HEALTHY) == begin + SMOOTHED // 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_above_all(bad):
    losses = healthy(7)
    losses[100:] = [bad] * 100
    assert seen_from(losses, HEALTHY) == 100 + SMOOTHED // 2


def test_a_few_steps_outside_are_no_fault():
    losses = healthy(7)
    losses[100 : 100 + IN_A_ROW - 2] = [9.0] * (IN_A_ROW - 2)
    assert seen_from(losses, HEALTHY) is None


def test_the_smoothed_curve_looks_back_alone():
    losses = healthy(3)
    assert smoothed(losses)[:50].tolist() == smoothed(losses[:50]).tolist()


def test_the_band_is_between_its_ends():
    low, high = band(HEALTHY)
    assert bool((low < high).all())
    assert seen_from(HEALTHY[0], []) is None
