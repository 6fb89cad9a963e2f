from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stablelit.functional.kl import (
    gaussian_kl_per_dim,
    initial_state,
    log_pi_step,
    multiplier_step,
    smooth,
)


def test_kl_equals_torchs_own():
    mean, logvar = torch.randn(64, 5), torch.randn(64, 5)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl_per_dim(mean, logvar), expected, rtol=1e-5, atol=1e-6)


@given(mean=st.floats(-1e3, 1e3), logvar=st.floats(-1e4, 1e4))
def test_kl_is_finite_and_not_negative_whatever_the_encoder_says(mean, logvar):
    kl = gaussian_kl_per_dim(torch.tensor([mean]), torch.tensor([logvar]))
    assert torch.isfinite(kl).all()
    assert (kl >= 0).all()


def test_kl_is_exact_near_the_prior_in_half_precision():
    mean = torch.full((1,), 1e-2, dtype=torch.bfloat16)
    exact = 0.5 * float(mean.double()) ** 2
    assert gaussian_kl_per_dim(mean, torch.zeros(1, dtype=torch.bfloat16)).item() == pytest.approx(exact, rel=1e-5)


def test_smoothing_starts_at_the_first_value():
    for kind in (float, torch.tensor):
        first = smooth(kind(math.nan), kind(4.0), 0.9)
        assert float(first) == 4.0
        assert float(smooth(first, kind(14.0), 0.9)) == pytest.approx(5.0)


def _rate(weight: float, variances: list[float]) -> float:
    """The KL of the optimal linear-Gaussian code at a weight: reverse water-filling, R = sum_j max(0, ln(s_j / D)) / 2.

    With unit observation noise the distortion slope is -dD/dR = weight at the water level D = weight.
    """
    level = max(weight, 1e-30)
    return sum(0.5 * math.log(variance / level) for variance in variances if variance > level)


VARIANCES = [9.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.05]


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(target=st.floats(0.3, 8.0), scale=st.floats(1e-2, 1e2))
def test_the_controller_reaches_a_target_on_a_known_rate_distortion_curve_of_any_scale(target, scale):
    state, kl = initial_state(0.0, 1.0), 0.0
    variances = [scale * variance for variance in VARIANCES]
    for _ in range(3000):
        # the model follows its weight with a lag of a few tens of steps
        kl += 0.05 * (_rate(float(state.weight), variances) - kl)
        state = log_pi_step(state, kl, target, min_weight=1e-6, max_weight=1e4)
    assert kl == pytest.approx(target, rel=0.02)


def test_rate_falls_with_the_weight_so_a_lower_cap_buys_a_larger_kl():
    rates = [_rate(w, VARIANCES) for w in (1e-4, 1e-2, 0.1, 1.0, 4.0)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(bound=st.floats(0.3, 8.0))
def test_the_hinge_keeps_the_kl_below_its_bound_and_does_nothing_where_it_is_below_anyway(bound):
    state, kl = initial_state(0.0, 0.3), 0.0
    for _ in range(4000):
        kl += 0.05 * (_rate(float(state.weight), VARIANCES) - kl)
        state = multiplier_step(state, kl, bound, 0.3)
    natural = _rate(0.3, VARIANCES)
    assert kl <= 1.05 * bound
    assert kl == pytest.approx(min(bound, natural), rel=0.05)
    if natural < 0.9 * bound:
        assert float(state.weight) == pytest.approx(0.3)
        assert float(state.integral) == 0.0


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(target=st.floats(0.5, 8.0))
def test_the_capacity_multiplier_reaches_its_target_from_below_and_above(target):
    for start in (0.0, 30.0):
        state, kl = initial_state(0.0, 0.0), start
        for _ in range(6000):
            kl += 0.05 * (_rate(float(state.weight), VARIANCES) - kl)
            state = multiplier_step(state, kl, target, two_sided=True)
        assert kl == pytest.approx(target, rel=0.03)


def test_capacity_rewards_information_below_the_target():
    state = multiplier_step(initial_state(0.0, 0.0), 0.1, 5.0, two_sided=True)
    assert float(state.weight) < 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_kl_that_is_not_finite_changes_nothing(bad):
    for function in (log_pi_step, multiplier_step):
        state = function(initial_state(0.0, 1.0), 3.0, 2.0)
        after = function(state, bad, 2.0)
        assert after == state


def test_the_integral_does_not_wind_up_at_a_limit():
    state = initial_state(0.0, 1.0)
    for _ in range(10_000):
        state = log_pi_step(state, 100.0, 1.0, max_weight=2.0)
    assert float(state.weight) == pytest.approx(2.0)
    steps = 0
    while float(state.weight) > 1.9:
        state = log_pi_step(state, 0.5, 1.0, max_weight=2.0)
        steps += 1
    # the smoothing must forget 100 nats first (about 45 steps at 0.9); a wound-up integral would take thousands
    assert steps < 80


def test_a_state_is_floats_on_the_host_and_tensors_elsewhere():
    state = initial_state(0.0, 1.0)
    assert all(isinstance(value, float) for value in state)
    assert all(value.device.type == "meta" for value in state.on("meta"))
