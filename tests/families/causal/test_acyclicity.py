from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.causal.acyclicity import (
    acyclicity,
    exponential_acyclicity,
    inside_domain,
    log_det_acyclicity,
    polynomial_acyclicity,
    spectral_radius,
    trace_power_acyclicity,
)

SMOOTH = ("log_det", "exponential", "polynomial")


def cycle(length: int, weight: float, nodes: int = 13) -> torch.Tensor:
    weights = torch.zeros(nodes, nodes, dtype=torch.float64)
    for i in range(length):
        weights[i, (i + 1) % length] = weight
    return weights


def random_dag(nodes: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(nodes)
    order = torch.randperm(nodes, generator=generator)
    weights = torch.randn(nodes, nodes, dtype=torch.float64, generator=generator).triu(1)
    return weights[order][:, order]


@pytest.mark.parametrize("kind", SMOOTH)
def test_an_acyclic_graph_costs_nothing_however_large_its_weights(kind):
    assert float(acyclicity(kind, 5.0 * random_dag())) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("weight", [0.3, -0.9])
def test_a_single_cycle_costs_what_its_closed_form_says(length, weight):
    weights, d, product = cycle(length, weight), 13, weight ** (2 * length)
    # det(I - M) of one cycle is 1 - its product; closed walks of length kL have L starting points each
    assert float(log_det_acyclicity(weights)) == pytest.approx(-math.log(1 - product), rel=1e-9, abs=1e-12)
    walks = sum(length * product**k / math.factorial(k * length) for k in range(1, 40 // length + 1))
    assert float(exponential_acyclicity(weights)) == pytest.approx(walks, rel=1e-9, abs=1e-12)
    chosen = sum(length * math.comb(d, k * length) * product**k / d ** (k * length) for k in range(1, d // length + 1))
    assert float(polynomial_acyclicity(weights)) == pytest.approx(chosen, rel=1e-9, abs=1e-12)


def test_the_scale_of_the_log_determinant_enters_as_the_formula_says():
    weights = cycle(3, 0.7, nodes=4)
    matrix = 0.8 * torch.eye(4, dtype=torch.float64) - weights**2
    expected = -math.log(float(torch.linalg.det(matrix))) + 4 * math.log(0.8)
    assert float(log_det_acyclicity(weights, 0.8)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", SMOOTH)
def test_the_closed_form_of_the_gradient_is_that_of_finite_differences(kind):
    generator = torch.Generator().manual_seed(1)
    weights = 0.4 * torch.randn(5, 5, dtype=torch.float64, generator=generator)
    weights.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: 3.0 * acyclicity(kind, w, 1.3), (weights,))


def test_the_post_mortems_trace_sees_no_cycle_longer_than_its_power():
    assert float(trace_power_acyclicity(cycle(3, 1.0), 3)) == pytest.approx(3 / 13**3, rel=1e-9)
    assert float(trace_power_acyclicity(cycle(4, 1.0), 3)) == pytest.approx(0.0, abs=1e-12)
    assert float(trace_power_acyclicity(cycle(4, 1.0), 4)) > 0
    weights = cycle(4, 1.0).requires_grad_()
    trace_power_acyclicity(weights, 3).backward()
    assert float((weights.grad * cycle(4, 1.0)).abs().sum()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", SMOOTH)
def test_all_but_the_trace_see_a_cycle_of_any_length(kind):
    assert float(acyclicity(kind, cycle(13, 0.9))) > 0


def test_precision_is_that_of_float64_under_autocast():
    weights = cycle(3, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = log_det_acyclicity(weights.float())
    assert low.dtype == torch.float64
    assert float(low) == pytest.approx(-math.log(1 - 0.5**6), rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_domain_is_that_of_the_spectral_radius(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    radius = spectral_radius(weights)
    for s in (0.5 * radius, 0.98 * radius, 1.02 * radius, 3.0 * radius):
        assert inside_domain(weights, s) == (radius < s)


def test_weights_that_are_not_finite_are_outside_the_domain():
    weights = cycle(2, 0.1)
    weights[0, 5] = math.nan
    assert not inside_domain(weights, 1.0)


def test_none_has_no_gradient_to_give():
    assert not acyclicity("none", cycle(2, 1.0).requires_grad_()).requires_grad
