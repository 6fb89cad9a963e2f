from __future__ import annotations

import functools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError
from stablelit.functional import schedules
from stablelit.functional.pacing import NAMES, PACINGS, Pacing, postmortem

RAMPS = [name for name in NAMES if name not in ("constant", "postmortem")]
ends = st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)).map(sorted)
unit = st.floats(0, 1, allow_nan=False)

# the same curves, written down a second time with p and d0 as the papers have them
FORMULAS = {
    "linear": lambda p, d0: d0 + (1 - d0) * p,
    "root": lambda p, d0: (p * (1 - d0**2) + d0**2) ** 0.5,
    "exponential": lambda p, d0: d0 ** (1 - p),
    "saturating": lambda p, d0: d0 + (1 - d0) * (1 - math.exp(-3 * p)) / (1 - math.exp(-3)),
    "cosine": lambda p, d0: d0 + (1 - d0) * (1 - math.cos(math.pi * p)) / 2,
    "power": lambda p, d0: d0 + (1 - d0) * p**2,
    "constant": lambda p, d0: 1.0,
}


@pytest.mark.parametrize("name", RAMPS)
@given(ends=ends)
def test_a_ramp_is_exact_at_both_ends(name, ends):
    pacing = Pacing(name, *ends)
    assert pacing.value(0.0) == pacing.value(-2.0) == pacing.value(math.nan) == ends[0]
    assert pacing.value(1.0) == pacing.value(3.0) == ends[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@given(a=unit, b=unit, ends=ends)
def test_no_pacing_ever_falls_or_leaves_its_ends(name, a, b, ends):
    pacing = Pacing(name) if name == "postmortem" else Pacing(name, *ends)
    low, high = (pacing.value(p) for p in sorted((a, b)))
    assert pacing.start <= low <= high <= pacing.end


@pytest.mark.parametrize("name", FORMULAS)
@given(p=unit, d0=st.floats(0.001, 1))
def test_a_pacing_is_its_formula(name, p, d0):
    assert Pacing(name, d0).value(p) == pytest.approx(FORMULAS[name](p, d0), abs=1e-9)


@given(p=unit, ends=ends)
def test_the_geometric_ramp_grows_by_a_factor_whatever_its_end(p, ends):
    start, end = ends
    assert Pacing("exponential", start, end).value(p) == pytest.approx(start ** (1 - p) * end**p)


def test_the_root_has_platanios_competence_with_a_free_end():
    start, end, r = 0.01, 0.8, 3.0
    expected = [(p * (end**r - start**r) + start**r) ** (1 / r) for p in np.linspace(0, 1, 11)]
    assert [Pacing("root", start, end, power=r).value(p) for p in np.linspace(0, 1, 11)] == pytest.approx(expected)


@given(p=unit)
def test_logistic_and_default_stairs_are_those_of_the_schedules(p):
    assert Pacing("logistic", 0.0).value(p) == pytest.approx(schedules.sigmoid(p))
    assert Pacing("step", 0.0).value(p) == pytest.approx(schedules.step(p, 4))


def test_steps_rise_at_their_boundaries():
    pacing = Pacing("step", 0.1, boundaries=[0.3, 0.6], values=[0.5, 1.0])
    assert [pacing.value(p) for p in (0.0, 0.29, 0.3, 0.1 + 0.2, 0.59, 0.6, 1.0)] == [0.1, 0.1, 0.5, 0.5, 0.5, 1.0, 1.0]


def test_the_published_ramp_is_repeated_bit_for_bit():
    for step in (0, 500, 1000, 2500, 5000, 14_800, 200_000):
        factor = min(1.0, (1.0 - torch.exp(torch.tensor(-3.0 * (float(step) / 5000.0)))).item())
        assert Pacing("postmortem").value(step / 5000) == 0.1 + 0.9 * factor
    # what the research table of the post-mortem has at its five probes
    assert [postmortem(s / 5000) for s in (0, 500, 1000, 2500, 5000)] == pytest.approx(
        [0.1, 0.333, 0.506, 0.799, 0.955], abs=1e-3
    )
    assert postmortem(1.0) < postmortem(2.0) < 1.0
    assert not Pacing("postmortem").ends


def test_the_published_ramp_is_the_saturating_one_that_was_never_finished():
    # scaled to where it stands at its end, the one is the other
    for p in np.linspace(0, 1, 21):
        share = (postmortem(p) - 0.1) / (postmortem(1.0) - 0.1)
        assert Pacing("saturating", 0.0).value(p) == pytest.approx(share, abs=1e-6)


@given(p=unit, width=st.floats(0.01, 0.5))
def test_rounding_goes_down_to_a_multiple_but_for_the_ends(p, width):
    exact, rounded = Pacing("linear", 0.1).value(p), Pacing("linear", 0.1, round_to=width).value(p)
    assert rounded <= exact + 1e-8
    assert rounded in (0.1, 1.0) or rounded / width == pytest.approx(round(rounded / width))
    assert exact - rounded < width + 1e-8


def test_rounding_does_not_lose_a_step_to_floating_point():
    assert Pacing("linear", 0.0, round_to=0.1).value(0.3) == pytest.approx(0.3)  # 0.3 / 0.1 is 2.9999999999999996
    assert Pacing("linear", 0.1, round_to=0.3).value(1.0) == 1.0


def test_any_callable_paces():
    pacing = Pacing(functools.partial(pow, exp=3), 0.2, 0.8)
    assert pacing.value(0.5) == pytest.approx(0.2 + 0.6 * 0.125)
    assert pacing.name == "pow"
    assert pickle.loads(pickle.dumps(pacing)).value(0.3) == pacing.value(0.3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "liner"}, "pacing='liner'.*Did you mean 'linear'"),
        ({"kind": 3}, "pacing=3"),
        ({"start": 0.7, "end": 0.5}, "start=0.7.*at most 0.5"),
        ({"start": -0.1}, "start=-0.1"),
        ({"start": "0.1"}, "start='0.1'"),
        ({"start": math.nan}, "start=nan"),
        ({"end": 0.0, "start": 0.0}, "end=0.0"),
        ({"kind": "exponential", "start": 0.0}, "start=0.0.*above 0"),
        ({"power": 2.0}, "power=2.0.*only pacing='root' or 'power' has it, this is 'linear'"),
        ({"kind": "root", "power": 0.0}, "power=0.0"),
        ({"kind": "saturating", "steepness": -1.0}, "steepness=-1.0"),
        ({"kind": "step", "boundaries": [0.5, 0.2], "values": [0.5, 1]}, "boundaries.*ascending"),
        ({"kind": "step", "boundaries": [0.0, 0.2], "values": [0.5, 1]}, "boundaries.*above 0"),
        ({"kind": "step", "boundaries": [0.5, 1.2], "values": [0.5, 1]}, r"boundaries\[1\]=1.2"),
        ({"kind": "step", "boundaries": [0.5], "values": [0.5, 1]}, "values.*one each"),
        ({"kind": "step", "boundaries": [0.5], "values": [0.9]}, "values.*last is end=1"),
        ({"kind": "step", "boundaries": [0.2, 0.5], "values": [0.05, 1]}, r"values\[0\]=0.05"),
        ({"kind": "step", "boundaries": "0.5"}, "boundaries='0.5'"),
        ({"round_to": 0}, "round_to=0"),
        ({"kind": "postmortem", "start": 0.2}, "postmortem.*start=0.2"),
        ({"kind": "postmortem", "round_to": 0.1}, "postmortem.*round_to=0.1"),
        ({"kind": lambda p: 1 - abs(1 - 2 * p)}, "falls from 1 to 0.99.* between 0.5 and"),
        ({"kind": lambda p: p / 2}, "1 at 1, not 0.5"),
        ({"kind": lambda p: 2 * p}, "not 1.00781 at 0.50390"),
        ({"kind": lambda p: math.nan}, "not nan at 0"),
        ({"kind": lambda p: None}, "returns a number, not None at 0"),
    ],
)
def test_bad_pacings_are_refused_with_the_place(arguments, says):
    with pytest.raises(ConfigurationError, match=f"Tried: .*{says}"):
        Pacing(**arguments, owner="Tried")


def test_every_setting_is_told_in_words():
    assert str(Pacing("root", power=3)) == "root from 0.1 to 1, power=3"
    assert set(PACINGS) < set(NAMES)
