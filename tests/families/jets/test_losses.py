from __future__ import annotations

import math

import torch

from stablelit.families.jets.losses import count_nll, mixture_log_density, one_gaussian_nll


def parameters(n_jets: int, k: int):
    draws = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(shape, generator=draws)  # noqa: E731
    return normal(n_jets, k).log_softmax(-1), normal(n_jets, k, 3), 0.5 * normal(n_jets, k, 3)


def test_density_equals_the_sum_of_exponentials_written_out():
    log_weight, mean, log_sigma = parameters(2, 4)
    x = torch.randn(2, 5, 3)
    found = mixture_log_density(x, log_weight, mean, log_sigma)
    for b in range(2):
        for i in range(5):
            total = 0.0
            for k in range(4):
                term = math.exp(log_weight[b, k])
                for f in range(3):
                    sigma = math.exp(log_sigma[b, k, f])
                    pull = float(x[b, i, f] - mean[b, k, f]) / sigma
                    term *= math.exp(-0.5 * pull**2) / (sigma * math.sqrt(2 * math.pi))
                total += term
            assert abs(float(found[b, i]) - math.log(total)) < 1e-5


def test_density_integrates_to_one():
    log_weight, mean, log_sigma = parameters(1, 3)
    log_sigma = log_sigma.clamp(-0.7, 0.5)
    axis = torch.linspace(-9, 9, 73)
    grid = torch.cartesian_prod(axis, axis, axis)[None]
    volume = float(axis[1] - axis[0]) ** 3
    assert abs(float(mixture_log_density(grid, log_weight, mean, log_sigma).exp().sum()) * volume - 1) < 1e-3


def test_the_count_is_scored_by_its_own_logit():
    logits = torch.randn(3, 6)
    mask = torch.arange(6) < torch.tensor([[1], [2], [6]])
    expected = [-logits[b].log_softmax(-1)[n - 1] for b, n in enumerate((1, 2, 6))]
    torch.testing.assert_close(count_nll(logits, mask), torch.stack(expected))


def test_the_baseline_equals_torchs_normal_and_the_frequency_of_n():
    x, log_count_prob = torch.randn(7, 6, 3), torch.randn(6).log_softmax(0)
    mask = torch.arange(6) < torch.tensor([1, 2, 3, 4, 5, 6, 3])[:, None]
    normal = torch.distributions.Normal(0.0, 1.0)
    for b, found in enumerate(one_gaussian_nll(x, mask, log_count_prob)):
        n = int(mask[b].sum())
        expected = -sum(normal.log_prob(x[b, i]).sum() for i in range(n)) - log_count_prob[n - 1]
        torch.testing.assert_close(found, expected)


def test_the_baseline_is_the_mixture_with_one_standard_component():
    x = torch.randn(4, 6, 3)
    mask = torch.arange(6) < torch.tensor([2, 6, 4, 1])[:, None]
    logits = torch.randn(6)
    zeros = torch.zeros(4, 1, 3)
    density = mixture_log_density(x, zeros[..., 0], zeros, zeros).masked_fill(~mask, 0.0)
    expected = count_nll(logits.expand(4, 6), mask) - density.sum(1)
    torch.testing.assert_close(one_gaussian_nll(x, mask, logits.log_softmax(0)), expected)
