from __future__ import annotations

import math

import pytest
import torch

from stablelit.functional.posterior import active_by_mean, mutual_information


def test_it_is_the_two_nested_loops_over_samples():
    torch.manual_seed(0)
    mean, logvar = torch.randn(9, 3).double(), torch.randn(9, 3).double() - 1
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    z = mean + noise * torch.exp(0.5 * logvar)
    total = 0.0
    for i in range(9):
        densities = [
            float(torch.distributions.Normal(mean[k], torch.exp(0.5 * logvar[k])).log_prob(z[i]).sum())
            for k in range(9)
        ]
        total += densities[i] - math.log(sum(map(math.exp, densities)) / 9)
    information, marginal = mutual_information(mean, logvar, seed=4)
    assert information == pytest.approx(total / 9, rel=1e-9)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    assert information + marginal == pytest.approx(float(kl), rel=1e-5)


def test_a_linear_gaussian_code_has_its_closed_form():
    # z = 0.8 x + N(0, 0.5^2), x ~ N(0, 1): I = ln(1 + 0.64 / 0.25) / 2, q_agg = N(0, 0.89)
    x = torch.randn(1500, 1, generator=torch.Generator().manual_seed(0))
    information, marginal = mutual_information(0.8 * x, torch.full_like(x, math.log(0.25)))
    assert information == pytest.approx(0.5 * math.log(1 + 0.64 / 0.25), abs=0.05)
    assert marginal == pytest.approx(0.5 * (0.89 - 1 - math.log(0.89)), abs=0.05)


def test_it_saturates_at_the_logarithm_of_the_samples_and_is_0_for_a_dead_code():
    far = 1e3 * torch.arange(16.0)[:, None]
    assert mutual_information(far, torch.full((16, 1), -20.0))[0] == pytest.approx(math.log(16))
    assert mutual_information(torch.zeros(16, 2), torch.zeros(16, 2)) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert mutual_information(torch.zeros(0, 2), torch.zeros(0, 2)) == (0.0, 0.0)


def test_active_by_mean_counts_the_units_whose_mean_moves():
    means = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5, 0.05, 0.0]) + 3.0
    expected = int((means.var(dim=0, correction=0) > 0.01).sum())
    assert active_by_mean(means.sum(0), means.square().sum(0), 500) == expected == 2
