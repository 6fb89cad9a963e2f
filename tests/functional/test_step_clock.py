from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablelit.functional.step_clock import StepClock, StepTotals, quantiles
from stablelit.functional.throughput import time_shares


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


def test_quantiles_are_those_of_the_sorted_values():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert quantiles(values, (0.0, 0.25, 0.5, 1.0)) == [1.0, 2.0, 3.0, 5.0]
    assert all(math.isnan(q) for q in quantiles([]))
