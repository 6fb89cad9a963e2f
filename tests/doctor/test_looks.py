"""When a doctor looks and judges, on a clock of the test's own."""

from __future__ import annotations

import itertools

import pytest

from stablelit.doctor.looks import FIRST_LOOKS, LookClock


def run(steps, step_seconds, look_seconds, budget=0.01, every=None, judge_seconds=0.0, hidden=0.0):
    """Steps that are looked at and judged in a run whose clock is known, and the share that looking took."""
    clock = LookClock(budget)
    clock.begin(every)
    looks, judgements, spent = [], [], 0.0
    for step in range(steps):
        if clock.wants_look(step):
            looks.append(step)
            clock.looked(step, step_seconds + look_seconds + hidden, look_seconds)
            spent += look_seconds + hidden
        else:
            clock.add_step(step_seconds)
        if clock.wants_judgement(step):
            judgements.append(step)
            clock.judged(step, judge_seconds)
    return looks, judgements, spent / (steps * step_seconds)


def test_the_first_steps_are_looked_at_and_then_one_is_not():
    looks, _, _ = run(20, 1.0, 1e-9)
    assert looks[:FIRST_LOOKS] == list(range(FIRST_LOOKS))
    assert FIRST_LOOKS not in looks


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_looks_keep_to_the_budget(ratio):
    looks, _, share = run(20_000, 1.0, ratio)
    doubled = [8 << k for k in range(20) if 8 << k < 20_000]
    assert set(doubled) <= set(looks)
    # all that was looked at is paid for, but for what was looked at last
    assert share <= 0.01 + 2 * ratio / 20_000
    # no fewer than can be afforded
    assert share > 0.008


def test_the_first_looks_are_paid_for_before_the_next_one():
    cost, budget = 0.2, 0.01
    looks, _, _ = run(400, 1.0, cost, budget)
    ladder = [0, 1, 2, 3, 4, 8, 16, 32, 64, 128]
    assert looks[:10] == ladder
    # ten looks are two seconds, and a hundredth of 200 steps; the first five are known with what looking took
    assert 198 <= looks[10] <= 200
    for before, step in enumerate(looks[10:], 10):
        assert step == 256 or before * cost <= budget * (step + 2)


def test_what_hooks_on_layers_cost_counts_too():
    _, _, seen = run(20_000, 1.0, 1.0)
    _, _, hidden = run(20_000, 1.0, 0.0, hidden=1.0)
    assert hidden == pytest.approx(seen, rel=0.1)


def test_no_step_is_further_from_a_look_than_two_hundred():
    looks, judgements, _ = run(2000, 1e-3, 10.0, judge_seconds=10.0)
    assert max(b - a for a, b in itertools.pairwise(looks)) == 200
    assert max(b - a for a, b in itertools.pairwise(judgements)) == 200


def test_a_look_that_costs_nothing_comes_at_every_step_and_a_judgement_at_every_25th():
    looks, judgements, _ = run(200, 1.0, 0.0)
    assert looks == [*range(FIRST_LOOKS), *range(8, 200)]
    assert judgements == list(range(0, 200, 25))


def test_a_look_that_the_machine_has_held_up_says_nothing():
    clock = LookClock(0.01)
    clock.begin(None)
    for _ in range(10):
        clock.add_step(1.0)
    for _ in range(5):
        clock.looked(0, 1.0, 0.1)
    clock.looked(100, 60.0, 0.1)
    # six looks of 0.1 are a hundredth of 60 steps, of which 16 are over
    assert not clock.wants_look(140)
    assert clock.wants_look(145)


def test_a_judgement_that_the_machine_has_held_up_says_nothing():
    clock = LookClock(0.01)
    clock.begin(None)
    for _ in range(10):
        clock.add_step(1.0)
    clock.judged(0, 0.2)
    clock.judged(100, 60.0)
    # twice a fifth of a step, of which a hundredth may be spent
    assert not clock.wants_judgement(139)
    assert clock.wants_judgement(140)


def test_what_is_suspected_is_judged_again_soon():
    clock = LookClock(0.01)
    clock.begin(None)
    for _ in range(10):
        clock.add_step(1.0)
    clock.judged(100, 0.9, suspects=True)
    assert not clock.wants_judgement(124)
    assert clock.wants_judgement(125)


def test_given_distances_depend_on_no_clock():
    slow = run(100, 1.0, 50.0, every=7, judge_seconds=9.0)[:2]
    fast = run(100, 50.0, 1e-6, every=7, judge_seconds=1e-6)[:2]
    assert slow == fast
    looks, judgements = slow
    assert looks == [0, 1, 2, 3, *range(4, 100, 7)]
    assert judgements == list(range(0, 100, 7))


def test_the_state_says_when_it_is_next():
    one, other = LookClock(0.01), LookClock(0.01)
    one.begin(5)
    one.looked(10, 1.0, 0.1)
    one.judged(12, 0.1)
    other.load_state_dict(one.state_dict())
    other.begin(5)
    for step in range(40):
        assert one.wants_look(step) == other.wants_look(step)
        assert one.wants_judgement(step) == other.wants_judgement(step)


def test_a_distance_longer_than_the_longest_is_kept():
    _, judgements, _ = run(1001, 1.0, 0.0, every=500)
    assert judgements == [0, 500, 1000]
