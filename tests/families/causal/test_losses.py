from __future__ import annotations

import pytest
import torch

from stablelit.families.causal.losses import correlation_penalty, cross_correlation, l1


def uncorrelated(n: int, k: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(k)
    full = torch.randn(n, k, dtype=torch.float64, generator=generator)
    basis, _ = torch.linalg.qr(full - full.mean(0))
    return basis * n**0.5


def test_the_l1_norm_leaves_out_what_is_required_anyway():
    weights = torch.tensor([[0.0, -2.0], [3.0, 0.0]])
    assert float(l1(weights)) == 5.0
    assert float(l1(weights, torch.tensor([[False, True], [False, False]]))) == 3.0


def test_codes_that_share_nothing_cost_nothing():
    codes = uncorrelated(64, 6)
    assert float(cross_correlation([codes[:, :2], codes[:, 2:4], codes[:, 4:]])) == pytest.approx(0.0, abs=1e-12)


def test_correlation_within_a_code_is_its_own_affair():
    code = uncorrelated(64, 2)
    twice = torch.cat([code[:, :1], code[:, :1]], dim=1)
    assert float(cross_correlation([twice, code[:, 1:]])) == pytest.approx(0.0, abs=1e-12)


def test_equal_codes_cost_the_share_of_their_dimensions():
    code = uncorrelated(64, 4)
    # of the 16 correlations, the 4 of a dimension with itself are 1
    assert float(cross_correlation([code, 5.0 * code + 1.0])) == pytest.approx(0.25, rel=1e-6)


def test_a_constant_code_is_correlated_with_nothing():
    code = uncorrelated(64, 2)
    assert float(cross_correlation([code, torch.ones(64, 3, dtype=torch.float64)])) == pytest.approx(0.0, abs=1e-9)


def test_the_post_mortems_penalty_cannot_fall_below_its_diagonal():
    k = 16
    codes = uncorrelated(512, 3 * k)
    parts = [codes[:, :k], codes[:, k : 2 * k], codes[:, 2 * k :]]
    assert float(correlation_penalty(parts)) == pytest.approx(3 / (2 * k), rel=1e-6)
