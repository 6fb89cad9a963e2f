from __future__ import annotations

import math

import pytest
import torch

from stablelit.functional.free_bits import free_bits_kl


def test_its_mean_over_the_batch_is_kingmas_sum_in_value_and_in_gradient():
    kl = (torch.rand(32, 6, dtype=torch.float64) * torch.linspace(0.2, 3.0, 6)).requires_grad_()
    expected = sum(max(0.5, kl[:, j].mean().item()) for j in range(6))
    loss = free_bits_kl(kl, 0.5).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, kl)
    (by_maximum,) = torch.autograd.grad(kl.mean(0).clamp_min(0.5).sum(), kl)
    torch.testing.assert_close(gradient, by_maximum)
    below = kl.mean(0) < 0.5
    assert below.any()
    assert not below.all()
    assert (gradient[:, below] == 0).all()


def test_per_sample_it_is_two_nested_loops():
    kl = torch.rand(7, 4, dtype=torch.float64)
    expected = [sum(max(0.4, float(v)) for v in row) for row in kl]
    torch.testing.assert_close(free_bits_kl(kl, 0.4, "sample"), torch.tensor(expected, dtype=torch.float64))


def test_two_halves_that_agree_on_the_mean_average_to_the_gradient_of_the_whole():
    kl = torch.rand(8, 5, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(free_bits_kl(kl, 0.5).mean(), kl)
    mean = kl.detach().mean(0)
    halves = sum(free_bits_kl(half, 0.5, batch_mean=mean).mean() / 2 for half in (kl[:4], kl[4:]))
    torch.testing.assert_close(torch.autograd.grad(halves, kl)[0], whole)
    # without the agreement they do not: the halves' own means lie on other sides of the floor
    alone = sum(free_bits_kl(half, 0.5).mean() / 2 for half in (kl[:4], kl[4:]))
    assert not torch.allclose(torch.autograd.grad(alone, kl)[0], whole)


@pytest.mark.parametrize("reduce", ["batch", "sample"])
def test_a_kl_that_is_not_a_number_is_not_hidden_behind_the_floor(reduce):
    kl = torch.tensor([[math.nan, 0.1], [0.2, 0.1]])
    assert free_bits_kl(kl, 0.5, reduce).isnan().any()


def test_half_precision_is_summed_in_float32():
    kl = torch.full((4, 200), 0.3, dtype=torch.bfloat16)
    out = free_bits_kl(kl, 0.5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.full((4,), 100.0))
