from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError
from stablelit.functional.schedules import (
    PACINGS,
    Duration,
    Ramp,
    check_count,
    check_flag,
    check_number,
    cyclical,
    parse_duration,
    step,
)

MONOTONE = [name for name in PACINGS if name != "cyclical"]
finite = st.floats(-1e6, 1e6, allow_nan=False)
unit = st.floats(0, 1, allow_nan=False)


@pytest.mark.parametrize("shape", PACINGS)
@given(start=finite, end=finite)
def test_a_ramp_ends_at_exactly_its_end(shape, start, end):
    ramp = Ramp(start, end, shape)
    assert ramp.value(1.0) == end
    assert ramp.value(7.5) == end
    if shape != "constant":
        assert ramp.value(0.0) == start
        assert ramp.value(-3.0) == start


@pytest.mark.parametrize("shape", MONOTONE)
@given(a=unit, b=unit)
def test_every_pacing_but_cyclical_is_monotone(shape, a, b):
    low, high = sorted((a, b))
    assert PACINGS[shape](low) <= PACINGS[shape](high)


@pytest.mark.parametrize("shape", PACINGS)
@given(t=unit)
def test_pacing_stays_inside_the_unit_interval(shape, t):
    assert 0.0 <= PACINGS[shape](t) <= 1.0


@given(t=unit, k=st.floats(0.01, 400))
def test_sigmoid_is_the_rescaled_logistic(t, k):
    def logistic(x):
        return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))

    low, high = logistic(-k / 2), logistic(k / 2)
    expected = (logistic(k * (t - 0.5)) - low) / (high - low)
    assert Ramp(0.0, 1.0, "sigmoid", steepness=k).value(t) == pytest.approx(expected, abs=1e-6)


def test_cosine_and_root_have_their_known_middles():
    assert PACINGS["cosine"](0.5) == pytest.approx(0.5)
    assert PACINGS["root"](0.25) == pytest.approx(0.5)
    assert PACINGS["exponential"](0.5) == pytest.approx((math.exp(2.5) - 1) / (math.exp(5) - 1))


def test_cyclical_rises_in_each_cycle_and_holds():
    values = [cyclical(t / 80, cycles=4, ramp_share=0.5) for t in range(80)]
    for cycle in range(4):
        part = values[20 * cycle : 20 * cycle + 20]
        assert part[0] == pytest.approx(0.0)
        assert part[5] == pytest.approx(0.5)
        assert part[10:] == pytest.approx([1.0] * 10)


@pytest.mark.slow
@given(n=st.integers(1, 1000))
def test_a_staircase_rises_at_each_of_its_steps(n):
    assert [step(k / n, n) for k in range(n + 1)] == pytest.approx([k / n for k in range(n + 1)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (500, Duration(500, "st")),
        (0, Duration(0, "st")),
        ("500st", Duration(500, "st")),
        ("800ba", Duration(800, "ba")),
        (" 20 ep ", Duration(20, "ep")),
        ("2.5ep", Duration(2.5, "ep")),
        ("0.1dur", Duration(0.1, "dur")),
        ("1e3st", Duration(1000, "st")),
    ],
)
def test_clock_strings_are_read(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("100epochs", "Did you mean '100ep'?"),
        ("20 steps", "Did you mean '20st'?"),
        ("3batches", "Did you mean '3ba'?"),
        ("-5st", "-5st"),
        (-5, "-5"),
        (True, "True"),
        (0.1, "0.1dur"),
        (None, "None"),
        ("ep", "<number>"),
        ("1.5dur", "between 0 and 1"),
        ("1.5st", "whole number"),
        ("", "<number>"),
        ("nanep", "nanep"),
    ],
)
def test_anything_else_is_refused_with_its_value(bad, says):
    with pytest.raises(ConfigurationError, match="warmup=") as caught:
        parse_duration(bad, "warmup", "KLCapCallback")
    assert says in str(caught.value)
    assert "KLCapCallback" in str(caught.value)


def test_an_unknown_shape_gets_its_near_name():
    with pytest.raises(ConfigurationError, match=r"'cosin'.*Did you mean 'cosine'"):
        Ramp(0, 1, "cosin")


@pytest.mark.parametrize(
    "arguments",
    [{"cycles": 0}, {"cycles": 1.5}, {"ramp_share": 0.0}, {"ramp_share": 1.5}, {"steepness": 0.0}, {"start": math.nan}],
)
def test_a_ramp_checks_its_arguments(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        Ramp(**{"start": 0.0, "end": 1.0, "shape": "cyclical", **arguments})


@pytest.mark.parametrize("bad", ["abc", None, True, math.nan, math.inf, -1.0, 3.0])
def test_check_number_names_owner_argument_value_and_range(bad):
    with pytest.raises(ConfigurationError, match=r"Thing: rate=.*at least 0 and at most 2"):
        check_number("Thing", "rate", bad, at_least=0, at_most=2)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_any_make_are_counts(value):
    count = check_count("Owner", "n", value, 1)
    assert (count, type(count)) == (3, int)


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], 0, np.int64(-1)])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"Owner: n=.* is not allowed\. Allowed: an int of 1 or more"):
        check_count("Owner", "n", value, 1)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_what_is_neither_true_nor_false_is_refused(value):
    assert check_flag("Owner", "strict", False) is False
    with pytest.raises(ConfigurationError, match=r"Owner: strict=.* Allowed: True or False"):
        check_flag("Owner", "strict", value)
