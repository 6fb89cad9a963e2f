from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError
from stablelit.functional.plateau_gate import GateState, PlateauGate


def opened(gate, values):
    state, seen = GateState(), []
    for value in values:
        state = gate.step(state, value)
        seen.append(state.is_open)
    return seen


def test_it_opens_after_patience_and_shuts_with_the_next_improvement():
    gate = PlateauGate("val/nll", patience=2, max_hold=9)
    assert opened(gate, [3.0, 2.0, 2.0, 2.5, 2.4, 1.9, 1.9]) == [False, False, False, True, True, False, False]


def test_more_is_better_where_it_is_said():
    assert opened(PlateauGate("val/f1", "max", patience=1), [0.1, 0.2, 0.2, 0.3]) == [False, False, True, False]


def test_a_change_below_min_delta_is_no_improvement():
    # the best value stays: small gains add up to one
    assert opened(PlateauGate("v", min_delta=0.5, patience=1), [3.0, 2.8, 2.6, 2.4]) == [False, True, True, False]


def test_it_opens_for_one_interval_where_it_would_hold_for_ever():
    falling = [10.0 - k for k in range(9)]
    assert opened(PlateauGate("v", patience=2, max_hold=3), falling) == [False] * 3 + [True] + [False] * 3 + [
        True,
        False,
    ]


def test_a_value_that_is_not_finite_holds_and_counts_for_nothing():
    gate = PlateauGate("v", patience=1, max_hold=2)
    state = gate.step(gate.step(GateState(), 1.0), 1.0)
    assert state.is_open
    for bad in (math.nan, math.inf):
        assert gate.step(state, bad) == state._replace(is_open=False)


@given(st.lists(st.floats(-5, 5), max_size=60), st.integers(1, 4), st.integers(0, 4))
def test_it_never_holds_longer_than_max_hold(values, patience, more):
    gate = PlateauGate("v", patience=patience, max_hold=patience + more)
    runs = "".join("o" if is_open else "x" for is_open in opened(gate, values)).split("o")
    assert max(map(len, runs)) <= gate.max_hold


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"monitor": "train/loss"}, "monitor='train/loss'.*moves with the difficulty"),
        ({"monitor": "train_loss"}, "monitor='train_loss'"),
        ({"monitor": ""}, "monitor=''"),
        ({"mode": "less"}, "mode='less'"),
        ({"patience": 0}, "patience=0"),
        ({"patience": 3, "max_hold": 2}, "max_hold=2.*3 or more"),
        ({"min_delta": -1}, "min_delta=-1"),
    ],
)
def test_bad_settings_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=f"PlateauGate: {says}"):
        PlateauGate(**{"monitor": "val/nll", **arguments})
