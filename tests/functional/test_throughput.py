from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablelit.functional.throughput import (
    RankEpoch,
    Shares,
    StepClock,
    StepTotals,
    model_flops_utilisation,
    padding_fraction,
    quantiles,
    summarise,
    time_shares,
    verdict,
)


def run(clock, steps, busy=lambda now: None, now=0.0):
    """Plays steps of (between, wait, transfer, step) seconds through the clock; returns the end."""
    for between, wait, transfer, step in steps:
        now += between
        clock.fetch_begins(now, busy(now))
        now += wait
        clock.fetch_ends(now, busy(now))
        now += transfer
        clock.step_begins(now, busy(now))
        now += step
        clock.step_ends(now, busy(now))
    return now


durations = st.floats(0.0, 10.0)


@given(st.lists(st.tuples(durations, durations, durations, durations), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_the_sums_are_those_of_the_parts(steps):
    clock = StepClock(5)
    run(clock, steps)
    totals = clock.take()
    assert totals.steps == len(steps)
    assert totals.wait == pytest.approx(sum(s[1] for s in steps), abs=1e-6)
    assert totals.step == pytest.approx(sum(s[3] for s in steps), abs=1e-6)
    # nothing is known to have come before the first step, so what lies before its fetch does not count
    assert totals.wall == pytest.approx(sum(map(sum, steps)) - steps[0][0], abs=1e-6)
    assert totals.busy is None
    assert clock.take() == StepTotals()
    assert list(clock.recent_waits) == pytest.approx([s[1] for s in steps][-5:], abs=1e-6)


def test_what_is_no_part_of_training_is_not_counted():
    clock = StepClock(10)
    now = run(clock, [(0.0, 1.0, 0.0, 3.0)])
    clock.interrupt()
    run(clock, [(100.0, 1.0, 0.0, 3.0)], now=now)
    assert (clock.totals.wall, clock.totals.wait, clock.totals.steps) == (8.0, 2.0, 2)


def test_a_step_that_was_interrupted_inside_is_left_out_with_its_wait():
    clock = StepClock(10)
    clock.fetch_begins(0.0)
    clock.fetch_ends(5.0)
    clock.step_begins(5.0)
    clock.interrupt()
    assert clock.step_ends(50.0) is None
    assert clock.totals == StepTotals()
    run(clock, [(1.0, 1.0, 0.0, 2.0)], now=50.0)
    assert (clock.totals.wall, clock.totals.wait, clock.totals.steps) == (4.0, 1.0, 1)


def test_a_step_that_is_not_to_be_counted_leaves_no_wait_behind():
    clock = StepClock(10)
    clock.fetch_begins(0.0)
    clock.fetch_ends(5.0)
    clock.step_begins(5.0)
    assert clock.step_ends(9.0, count=False) is None
    run(clock, [(1.0, 2.0, 0.0, 3.0)], now=9.0)
    assert (clock.totals.wall, clock.totals.wait, clock.totals.step) == (6.0, 2.0, 3.0)


def test_a_fetch_inside_the_training_step_is_a_wait_and_no_part_of_the_step():
    clock = StepClock(10)
    for now in (0.0, 10.0):
        clock.step_begins(now)
        clock.fetch_begins(now + 1.0)
        clock.fetch_ends(now + 4.0)
        clock.step_ends(now + 6.0)
    # of the first step nobody knows when the one before it ended
    assert (clock.totals.wall, clock.totals.wait, clock.totals.step) == (10.0, 3.0, 3.0)


def test_a_device_that_always_or_never_works_is_seen_exactly():
    steps = [(random.Random(i).random(), 0.2, 0.1, 1.0) for i in range(9)]
    always, never = StepClock(9), StepClock(9)
    run(always, steps, lambda now: True)
    run(never, steps, lambda now: False)
    assert always.totals.busy == pytest.approx(always.totals.wall)
    assert always.totals.hidden == pytest.approx(always.totals.wait)
    assert (never.totals.busy, never.totals.hidden) == (0.0, 0.0)


def test_the_devices_share_is_right_on_average_when_it_stops_at_any_moment():
    """It works for 0.6 s from the beginning of each 1 s; the clock asks at random moments."""
    rng = random.Random(0)
    parts = [[0.1 + rng.random() for _ in range(4)] for _ in range(4000)]
    clock = StepClock(1)
    run(clock, parts, lambda now: now % 1.0 < 0.6)
    assert time_shares(clock.totals).device_busy == pytest.approx(0.6, abs=0.02)


def test_shares_of_a_host_that_computes():
    shares = time_shares(StepTotals(steps=2, wall=10.0, wait=2.0, step=7.0))
    assert shares == Shares(0.2, 0.2, None, pytest.approx(0.1))


def test_a_wait_that_the_device_spends_working_is_no_loss():
    shares = time_shares(StepTotals(steps=2, wall=10.0, wait=4.0, hidden=3.0, step=5.0, busy=8.0))
    assert shares == pytest.approx((0.4, 0.1, 0.8, 0.1))
    assert verdict(shares).limit == "compute-bound"


def test_without_steps_there_are_no_shares():
    assert time_shares(StepTotals()) is None


@pytest.mark.parametrize(
    ("shares", "padding", "limit"),
    [
        (Shares(0.3, 0.3, None, 0.0), None, "input-bound"),
        (Shares(0.1, 0.1, None, 0.5), None, "host-bound"),
        (Shares(0.05, 0.05, None, 0.1), 0.5, "padding"),
        (Shares(0.05, 0.05, None, 0.1), 0.2, "compute-bound"),
        (Shares(0.05, 0.05, None, 0.1), None, "compute-bound"),
        (Shares(0.5, 0.0, 0.95, 0.05), None, "compute-bound"),
        (Shares(0.19, 0.19, 0.65, 0.16), None, "input-bound"),
        (Shares(0.1, 0.1, 0.4, 0.5), 0.9, "host-bound"),
    ],
)
def test_verdicts(shares, padding, limit):
    found = verdict(shares, padding)
    assert found.limit == limit
    assert f"{shares.data_wait:.0%}" in found.sentence
    assert ("padding" in found.sentence) == (padding is not None)


def test_the_threshold_of_the_wait_is_the_callers():
    assert verdict(Shares(0.15, 0.15, None, 0.0)).limit == "compute-bound"
    assert verdict(Shares(0.15, 0.15, None, 0.0), too_much_wait=0.1).limit == "input-bound"


def rank(wait, samples=8, real=0.0, places=0.0, flops=0.0, p95=1.0, steps=2):
    totals = StepTotals(steps, wall=10.0, wait=wait, step=10.0 - wait)
    return RankEpoch(totals, samples, real, places, flops, [0.5, p95], [0.1, p95 / 10])


def test_an_epoch_of_two_ranks_sums_rates_and_takes_the_slowest_wait():
    ranks = [rank(1.0, 8, 30.0, 40.0, 2e9, 1.0), rank(3.0, 6, 20.0, 40.0, 4e9, 2.0)]
    shares, values = summarise(ranks, peak_flops_per_s=1e9)
    assert shares.data_wait == pytest.approx(0.3)
    assert values == pytest.approx(
        {
            "data_wait_frac": 0.3,
            "host_gap_frac": 0.0,
            "samples_per_s": 14 / 10,
            "items_per_s": 50 / 10,
            "padding_frac": 30 / 80,
            "flops_per_s": 6e9 / 10,
            "mfu": 6e9 / (10 * 1e9 * 2),
            "step_s_p50": 0.5,
            "step_s_p95": 2.0,
            "wait_s_p50": 0.1,
            "wait_s_p95": 0.2,
        }
    )


def test_what_nobody_counted_is_not_in_the_summary():
    _, values = summarise([rank(1.0)], None)
    assert not {"items_per_s", "padding_frac", "flops_per_s", "mfu", "device_busy_frac"} & set(values)
    assert "mfu" not in summarise([rank(1.0, flops=1.0)], None)[1]
    assert summarise([RankEpoch(StepTotals(), 0, 0.0, 0.0, 0.0, [math.nan] * 2, [math.nan] * 2)], None) is None


def test_quantiles_are_those_of_the_sorted_values():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert quantiles(values, (0.0, 0.25, 0.5, 1.0)) == [1.0, 2.0, 3.0, 5.0]
    assert all(math.isnan(q) for q in quantiles([]))


def test_padding():
    lengths = [3, 5, 1]
    places = len(lengths) * max(lengths)
    assert padding_fraction(sum(lengths), places) == pytest.approx(sum(max(lengths) - n for n in lengths) / places)
    for real, padded in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="allowed: 0 to padded_items"):
            padding_fraction(real, padded)


def test_model_flops_utilisation_of_two_devices_of_which_one_stands_still():
    assert model_flops_utilisation(flops=6e12, seconds=3.0, peak_flops_per_s=2e12, devices=1) == 1.0
    assert model_flops_utilisation(flops=6e12, seconds=3.0, peak_flops_per_s=2e12, devices=2) == 0.5
