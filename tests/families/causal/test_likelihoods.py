from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal, StudentT

from stablelit.families.causal.likelihoods import (
    LAPLACE_ROUNDING,
    STUDENT_DEGREES,
    best_log_scale,
    cell_nll,
    mean_over_scored,
)

RESIDUALS = torch.linspace(-3.0, 3.0, 41, dtype=torch.float64).reshape(-1, 1).expand(-1, 2).contiguous()
LOG_SCALE = torch.tensor([0.3, -0.7], dtype=torch.float64)


@pytest.mark.parametrize(
    ("noise", "density"),
    [
        ("gaussian", lambda s: Normal(0.0, s)),
        ("equal_variance", lambda s: Normal(0.0, s)),
        ("laplace", lambda s: Laplace(0.0, s)),
        ("student", lambda s: StudentT(STUDENT_DEGREES, 0.0, s)),
    ],
)
def test_each_noise_is_the_density_of_its_name(noise, density):
    expected = -density(LOG_SCALE.exp()).log_prob(RESIDUALS)
    tolerance = LAPLACE_ROUNDING if noise == "laplace" else 1e-9
    torch.testing.assert_close(cell_nll(noise, RESIDUALS, LOG_SCALE), expected, atol=tolerance, rtol=0.0)


def test_a_squared_error_has_no_scale():
    torch.testing.assert_close(cell_nll("squared_error", RESIDUALS, LOG_SCALE), RESIDUALS**2)


def test_the_laplace_loss_is_smooth_where_its_residual_is_zero():
    residual = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    cell_nll("laplace", residual, torch.zeros(1)).sum().backward()
    assert float(residual.grad) == 0.0


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "student", "equal_variance"])
def test_the_best_scale_is_a_minimum_of_the_likelihood(noise):
    generator = torch.Generator().manual_seed(3)
    residual = torch.randn(400, 3, dtype=torch.float64, generator=generator) * torch.tensor([0.2, 1.0, 5.0])
    scored = torch.rand(400, 3, generator=generator) < 0.8
    best = best_log_scale(noise, residual, scored)

    def value(log_scale: torch.Tensor) -> float:
        return float(mean_over_scored(cell_nll(noise, residual, log_scale), scored))

    shift = torch.full((3,), 0.02, dtype=torch.float64)
    assert value(best) < value(best + shift)
    assert value(best) < value(best - shift)


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "student"])
def test_a_change_of_units_shifts_the_likelihood_by_its_logarithm(noise):
    scored = torch.ones(41, 2, dtype=torch.bool)

    def at_best(residual: torch.Tensor) -> float:
        return float(mean_over_scored(cell_nll(noise, residual, best_log_scale(noise, residual, scored)), scored))

    tolerance = 2 * LAPLACE_ROUNDING
    assert at_best(1000.0 * RESIDUALS) - at_best(RESIDUALS) == pytest.approx(math.log(1000.0), abs=tolerance)


def test_cells_that_do_not_count_do_not_enter_the_mean():
    cells = torch.tensor([[1.0, 100.0], [3.0, 100.0]])
    assert float(mean_over_scored(cells, torch.tensor([[True, False], [True, False]]))) == 2.0
    assert float(mean_over_scored(cells, torch.zeros(2, 2, dtype=torch.bool))) == 0.0
