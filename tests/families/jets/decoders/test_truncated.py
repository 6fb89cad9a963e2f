from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from stablelit.families.jets.decoders.truncated import draw_mixture, log_probability_below

MIXTURE = (
    torch.tensor([[0.2, 0.5, 0.3]]).log(),
    torch.tensor([[[-1.0, 0.0, 1.0], [0.5, 1.0, -1.0], [2.0, 0.0, 0.0]]]),
    torch.tensor([[[0.5, 1.0, 0.3], [1.2, 0.2, 2.0], [0.3, 1.0, 1.0]]]).log(),
)


def distribution_function(x, ceiling=math.inf):
    """Of the first feature, in float64 from erfc."""
    log_weight, mean, log_sigma = (part.double()[0] for part in MIXTURE)

    def below(c):
        standard = (c[..., None] - mean[:, 0]) / log_sigma[:, 0].exp()
        return (log_weight.exp() * 0.5 * torch.erfc(-standard / math.sqrt(2))).sum(-1)

    return below(x.double()) / below(torch.as_tensor(ceiling, dtype=torch.double))


@pytest.mark.parametrize("ceiling", [-2.0, 0.3, 4.0])
def test_probability_is_the_weighted_sum_of_normal_tails(ceiling):
    found = log_probability_below(torch.tensor([ceiling]), *MIXTURE)
    expected = distribution_function(torch.tensor([ceiling])).log()
    assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def test_far_below_all_components_it_follows_the_tail_and_its_gradient_is_finite():
    for ceiling in (-20.0, -60.0, -1e3, -1e6):
        where = torch.tensor([ceiling], requires_grad=True)
        parameters = [part.clone().requires_grad_() for part in MIXTURE]
        found = log_probability_below(where, *parameters)
        found.sum().backward()
        gradients = [where.grad, *(part.grad for part in parameters)]
        assert found.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)
        if ceiling > -100:
            # the widest component rules: log pi + log phi(a) - log|a| + log(1 - a^-2)
            pull = (ceiling - 0.5) / 1.2
            tail = Normal(0.0, 1.0).log_prob(torch.tensor(pull)) - math.log(-pull) + math.log1p(-(pull**-2))
            assert float(found.detach()) == pytest.approx(math.log(0.5) + float(tail), abs=1e-3)


def test_beyond_the_last_digit_the_probability_is_only_over_estimated():
    ceiling = torch.tensor([-1e4])
    pull = float((ceiling - 0.5) / 1.2)
    assert float(log_probability_below(ceiling, *MIXTURE)) > -0.5 * pull**2


@pytest.mark.parametrize("ceiling", [math.inf, 0.3, -3.0])
def test_draws_follow_the_density_that_was_cut_off(ceiling):
    n = 40_000
    x = draw_mixture(n, *MIXTURE, torch.Generator().manual_seed(0), torch.tensor([ceiling]))[0]
    assert x.shape == (n, 3)
    assert (x[:, 0] <= ceiling).all()
    ordered = x[:, 0].sort().values
    exact = distribution_function(ordered, min(ceiling, 1e6))
    steps = torch.arange(1, n + 1) / n
    # Kolmogorov's distance; 1.95 / sqrt(n) is exceeded once in a thousand
    assert float((exact - steps).abs().max()) < 1.95 / math.sqrt(n)


def test_the_other_features_are_those_of_the_component():
    ceiling = torch.tensor([0.3])
    x = draw_mixture(200_000, *MIXTURE, torch.Generator().manual_seed(1), ceiling)[0]
    log_weight, mean, log_sigma = (part[0] for part in MIXTURE)
    inside = Normal(0.0, 1.0).cdf((0.3 - mean[:, 0]) / log_sigma[:, 0].exp())
    weight = (log_weight.exp() * inside) / (log_weight.exp() * inside).sum()
    assert torch.allclose(x[:, 1:].mean(0), (weight[:, None] * mean[:, 1:]).sum(0), atol=0.02)


@pytest.mark.parametrize("pull", [-10.0, -36.0, -38.0, -200.0])
def test_draws_in_the_far_tail_stay_in_it(pull):
    one = (torch.zeros(1, 1), torch.zeros(1, 1, 3), torch.zeros(1, 1, 3))
    x = draw_mixture(4000, *one, torch.Generator().manual_seed(0), torch.tensor([pull]))[0, :, 0].double()
    assert (x <= pull).all()
    # so far out the tail is exponential with mean 1 / |a|, to relative order a^-2
    assert float((pull - x).mean()) * -pull == pytest.approx(1.0, abs=0.05)
