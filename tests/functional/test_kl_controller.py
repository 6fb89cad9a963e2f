from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablelit.functional.kl import ControllerState
from stablelit.functional.kl_controller import KLController


@pytest.mark.parametrize("mode", ["weight", "target", "capacity", "hinge"])
@given(kls=st.lists(st.one_of(st.floats(1e-3, 1e3), st.just(math.nan), st.just(math.inf)), min_size=1, max_size=30))
def test_floats_and_tensors_go_through_the_same_formula(mode, kls):
    controller = KLController(mode, None if mode == "weight" else 4.0)
    on_host = controller.initial(0.5)
    on_device = ControllerState(*(torch.tensor(value, dtype=torch.float64) for value in on_host))
    for kl in kls:
        on_host = controller.step(on_host, kl, 2.0)
        on_device = controller.step(on_device, torch.tensor(kl, dtype=torch.float64), 2.0)
    assert all(isinstance(value, torch.Tensor) for value in on_device)
    assert [float(value) for value in on_device] == pytest.approx(list(on_host), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("mode", ["target", "capacity", "hinge"])
def test_a_state_goes_on_as_it_was_under_the_settings_that_it_is_of(mode):
    controller = KLController(mode, 4.0)
    state = controller.step(controller.step(controller.initial(0.5), 9.0, 2.0), 3.0, 2.0)
    assert controller.going_on(state, mode, 0.0) == state


def test_no_weight_goes_on_beyond_a_cap_that_was_lowered():
    assert KLController("target", 4.0, max_weight=0.3).going_on(ControllerState(5.0, 0.0, 0.9), "target", 0.9)[2] == 0.3
    assert KLController("capacity", 4.0, max_weight=0.3).going_on(ControllerState(5.0, 0.0, -2.0), "capacity", 0.0)[
        2
    ] == pytest.approx(-0.3)


def test_an_integral_of_another_mode_is_not_taken_for_its_own():
    of_target = ControllerState(5.0, math.log(0.2), 0.2)
    hinge = KLController("hinge", 4.0).going_on(of_target, "target", 1.0)
    assert hinge == (5.0, 0.0, 1.0)
    back = KLController("target", 4.0).going_on(ControllerState(5.0, 3.0, 0.7), "hinge", 0.7)
    assert back == pytest.approx((5.0, math.log(0.7), 0.7))
