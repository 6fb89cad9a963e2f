from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph
from stablelit.families.proteins.diffusion.noise import LogLinearNoise
from stablelit.families.proteins.diffusion.score_entropy import (
    bregman,
    cross_entropy,
    denoising_cost,
    log_probabilities,
    log_score_from,
    log_score_of_probabilities,
)


@pytest.mark.parametrize("d", [0.0, 1e-12, -1e-6, 1e-3, -0.049, 0.051, 1.0, -30.0, 5.0])
def test_bregman_is_right_to_a_rounding_error_of_its_argument_and_never_negative(d):
    exact = float(sum((Fraction(d) ** n / math.factorial(n) for n in range(2, 120)), Fraction(0)))
    for dtype in (torch.float64, torch.float32):
        value = float(bregman(torch.tensor(d, dtype=dtype)))
        assert value == pytest.approx(exact, rel=1e-6, abs=2 * abs(d) * torch.finfo(dtype).eps)
        assert value >= 0


def test_bregman_has_the_slope_of_its_formula():
    d = torch.tensor([-2.0, -0.06, -0.04, 0.0, 0.04, 0.06, 2.0], dtype=torch.float64, requires_grad=True)
    bregman(d).sum().backward()
    torch.testing.assert_close(d.grad, torch.expm1(d.detach()), rtol=1e-6, atol=1e-15)


def test_cost_of_normalised_scores_is_the_cross_entropy():
    h = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(1))
    log_p = log_probabilities(h)
    expected = torch.nn.functional.cross_entropy(h.reshape(-1, 7), x0.reshape(-1), reduction="none").reshape(2, 5)
    torch.testing.assert_close(cross_entropy(log_p, x0), expected)
    torch.testing.assert_close(denoising_cost(log_p, x0), expected)


def test_cost_of_scores_that_do_not_add_up_is_larger_by_a_known_amount():
    log_s = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(1))
    total = log_s.exp().sum(-1)
    expected = cross_entropy(log_probabilities(log_s), x0) + total - 1 - total.log()
    torch.testing.assert_close(denoising_cost(log_s, x0), expected)


@pytest.mark.parametrize("sigma", [1e-4, 0.7, 20.0])
def test_a_head_of_zeros_costs_the_logarithm_of_the_alphabet(sigma):
    x0 = torch.arange(20)[None]
    told = torch.tensor([sigma])
    log_s = log_score_from(torch.zeros(1, 20, 20), told)
    entropy = AbsorbingGraph(20).score_entropy(log_s, told, torch.full_like(x0, 20), x0)
    assert (entropy * math.expm1(sigma)).numpy() == pytest.approx(math.log(20), rel=1e-5)


def test_an_untrained_head_of_zeros_has_the_bound_log_n_per_residue():
    # sigma' / (e^sigma - 1) times the mask rate is (1 - eps): nothing is left to chance but the number of masks
    noise, graph = LogLinearNoise(), AbsorbingGraph(20)
    t = (torch.arange(2000) + 0.5) / 2000
    sigma, rate = noise.sigma(t), noise.rate(t)
    x0 = torch.zeros(2000, 1, dtype=torch.int64)
    entropy = graph.score_entropy(log_score_from(torch.zeros(2000, 1, 20), sigma), sigma, torch.full_like(x0, 20), x0)
    bound = (rate * noise.mask_probability(t) * entropy[:, 0]).mean()
    assert float(bound) == pytest.approx((1 - noise.eps) * math.log(20), rel=1e-4)


def test_scores_of_a_softmax_are_its_probabilities_over_the_noise():
    log_p = log_probabilities(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)))
    sigma = torch.tensor([0.5, 2.0])
    expected = log_p.exp() / torch.expm1(sigma)[:, None, None]
    torch.testing.assert_close(log_score_of_probabilities(log_p, sigma).exp(), expected)
    torch.testing.assert_close(log_score_of_probabilities(log_p, sigma[:, None]).exp(), expected)


def test_half_precision_comes_back_in_float32_and_double_stays():
    h = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    x0 = torch.tensor([[0, 2]])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [
            log_probabilities(h),
            log_score_from(h, torch.tensor([1e-4])),
            denoising_cost(h, x0),
            cross_entropy(h, x0),
        ]
    assert {o.dtype for o in outputs} == {torch.float32}
    assert torch.equal(outputs[1], log_score_from(h.float(), torch.tensor([1e-4])))
    assert log_score_from(h.double(), torch.tensor([1.0])).dtype == torch.float64
