from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion import noise as noises
from stablelit.families.proteins.diffusion.noise import (
    CosineNoise,
    GeometricNoise,
    HalfCosineNoise,
    LogLinearNoise,
    build_noise,
    check_reaches_prior,
    log_expm1,
)

ALL = [LogLinearNoise(), LogLinearNoise(0.2), GeometricNoise(), CosineNoise(), CosineNoise(0.05), HalfCosineNoise()]
EVERY = pytest.mark.parametrize("noise", ALL, ids=repr)


@EVERY
def test_rate_is_the_derivative_of_sigma(noise):
    t = torch.linspace(0, 1, 201, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(noise.sigma(t).sum(), t)
    torch.testing.assert_close(noise.rate(t.detach()), slope, rtol=1e-9, atol=1e-12)


@EVERY
def test_noise_grows_from_its_start_to_its_end(noise):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    sigma = noise.sigma(t)
    assert (sigma.diff() > 0).all()
    assert float(sigma[0]) == pytest.approx(getattr(noise, "sigma_min", 0.0), abs=1e-15)
    assert float(sigma[-1]) == pytest.approx(noise.sigma_at_end, rel=1e-12)
    assert float(torch.exp(-sigma[-1])) == pytest.approx(noise.unmasked_at_end, rel=1e-10)
    assert (noise.rate(t) >= 0).all()


@EVERY
def test_the_time_of_a_noise_and_of_a_mask_rate_is_found_again(noise):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(noise.t_of(noise.sigma(t)), t, rtol=0, atol=1e-6)
    torch.testing.assert_close(noise.t_of_mask_probability(noise.mask_probability(t)), t, rtol=0, atol=1e-6)
    assert float(noise.t_of(torch.tensor(1e3))) == pytest.approx(1.0)


@EVERY
@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.3, 0.6, 0.999, 1.0])
def test_float32_loses_no_digits_at_either_end(noise, t):
    # 1 - t is exact in float32 for the float32 nearest to t
    single = torch.tensor(t, dtype=torch.float32)
    for what in (noise.sigma, noise.rate, noise.mask_probability):
        torch.testing.assert_close(what(single).double(), what(single.double()), rtol=3e-6, atol=0)


def test_loglinear_masks_grow_linearly():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(LogLinearNoise(0.01).mask_probability(t), 0.99 * t)


def test_cosine_leaves_what_its_name_says():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    expected = 0.001 + 0.999 * torch.cos(math.pi / 2 * t)
    torch.testing.assert_close(torch.exp(-CosineNoise().sigma(t)), expected)


def test_half_cosine_is_half_way_at_half_time():
    assert float(HalfCosineNoise(0.1, 0.7).sigma(torch.tensor(0.5))) == pytest.approx(0.4)


def test_log_expm1_is_right_where_expm1_overflows_and_where_it_vanishes():
    sigma = torch.tensor([1e-6, 1e-3, 1.0, 30.0, 200.0])
    expected = [math.log(math.expm1(float(s))) if s < 100 else float(s) for s in sigma]
    torch.testing.assert_close(log_expm1(sigma), torch.tensor(expected), rtol=1e-6, atol=1e-7)


def test_the_noise_of_the_post_mortem_is_refused_for_generation_and_says_what_it_leaves():
    with pytest.raises(ConfigurationError, match=r"Doors: .*44\.9 % .*generation .*at most 1 %.*4\.605.*loglinear"):
        check_reaches_prior(HalfCosineNoise(), "generation", owner="Doors")


def test_noise_that_nearly_reaches_the_prior_gets_a_warning_and_the_defaults_none():
    assert check_reaches_prior(LogLinearNoise(), "generation") is None
    assert check_reaches_prior(CosineNoise(), "generation") is None
    assert check_reaches_prior(GeometricNoise(), "generation") is None
    assert "0.5 %" in check_reaches_prior(LogLinearNoise(5e-3), "generation")
    assert check_reaches_prior(LogLinearNoise(1e-2), "generation") is not None


def test_a_noise_is_built_by_name_or_mapping_and_passed_through():
    assert build_noise("geometric") == GeometricNoise()
    assert build_noise({"name": "half_cosine", "sigma_max": 0.5}) == HalfCosineNoise(sigma_max=0.5)
    own = CosineNoise(0.01)
    assert build_noise(own) is own
    assert set(noises.NOISES) == {"loglinear", "geometric", "cosine", "half_cosine"}


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("loglinaer", "Did you mean 'loglinear'"),
        (3, "loglinear, geometric"),
        ({"eps": 1e-3}, "noise=None"),
        ({"name": "loglinear", "epsilon": 1}, "no setting 'epsilon'.*Did you mean 'eps'.*Allowed: eps"),
        ({"name": "loglinear", "eps": 1.0}, "eps=1.0.*below 1"),
        ({"name": "cosine", "eps": 0}, "eps=0.*above 0"),
        ({"name": "geometric", "sigma_min": 2.0, "sigma_max": 1.0}, "sigma_max=1.0.*above 2"),
        ({"name": "half_cosine", "sigma_min": 0.0}, "sigma_min=0.0.*above 0"),
    ],
)
def test_a_noise_that_cannot_be_is_refused(noise, message):
    with pytest.raises(ConfigurationError, match=message):
        build_noise(noise)
