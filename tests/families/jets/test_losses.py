from __future__ import annotations

import math

import torch

from stablelit.families.jets.losses import mixture_log_density, one_gaussian_nll, set_log_likelihood


def parameters(n_jets: int, k: int, n_max: int = 6):
    draws = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(shape, generator=draws)  # noqa: E731
    return normal(n_jets, n_max), normal(n_jets, k).log_softmax(-1), normal(n_jets, k, 3), 0.5 * normal(n_jets, k, 3)


def test_density_equals_the_sum_of_exponentials_written_out():
    _, log_weight, mean, log_sigma = parameters(2, 4)
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
    _, log_weight, mean, log_sigma = parameters(1, 3)
    log_sigma = log_sigma.clamp(-0.7, 0.5)
    axis = torch.linspace(-9, 9, 73)
    grid = torch.cartesian_prod(axis, axis, axis)[None]
    volume = float(axis[1] - axis[0]) ** 3
    assert abs(float(mixture_log_density(grid, log_weight, mean, log_sigma).exp().sum()) * volume - 1) < 1e-3


def test_likelihood_of_a_padded_batch_is_that_of_its_jets():
    count, log_weight, mean, log_sigma = parameters(3, 4)
    x, mask = torch.randn(3, 6, 3), torch.arange(6) < torch.tensor([[1], [2], [6]])
    x[~mask] = 1e6
    together = set_log_likelihood(x, mask, count, log_weight, mean, log_sigma)
    for b, n in enumerate((1, 2, 6)):
        particles = mixture_log_density(x[b : b + 1, :n], log_weight[b : b + 1], mean[b : b + 1], log_sigma[b : b + 1])
        alone = particles.sum() + count[b].log_softmax(-1)[n - 1]
        assert torch.allclose(together[b], alone, atol=1e-5)


def test_likelihood_does_not_know_an_order():
    arguments = parameters(2, 4)
    x, mask = torch.randn(2, 6, 3), torch.arange(6) < torch.tensor([[4], [6]])
    order = torch.randperm(6)
    first, second = (set_log_likelihood(a, m, *arguments) for a, m in ((x, mask), (x[:, order], mask[:, order])))
    assert torch.allclose(first, second, atol=1e-5)


def test_padding_gets_no_gradient():
    count, log_weight, mean, log_sigma = parameters(2, 4)
    x, mask = torch.randn(2, 6, 3, requires_grad=True), torch.arange(6) < torch.tensor([[2], [3]])
    set_log_likelihood(x, mask, count, log_weight, mean, log_sigma).sum().backward()
    assert not x.grad[~mask].any()
    assert x.grad[mask].all()


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
    found = one_gaussian_nll(x, mask, logits.log_softmax(0))
    torch.testing.assert_close(found, -set_log_likelihood(x, mask, logits.expand(4, 6), zeros[..., 0], zeros, zeros))
