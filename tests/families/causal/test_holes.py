from __future__ import annotations

import numpy as np
import torch

from stablelit.families.causal.holes import fill_holes
from stablelit.families.causal.moments import impute


def test_holes_are_filled_as_by_the_search_over_patterns():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    covariance = mixing @ mixing.T + 0.1 * np.eye(5)
    rows = rng.multivariate_normal(np.zeros(5), covariance, size=200)
    mask = rng.random((200, 5)) < 0.6
    mask[0], mask[1] = False, True
    expected = impute(rows, mask, np.zeros(5), covariance)
    precision = torch.from_numpy(np.linalg.inv(covariance))
    # what stands in a hole must not matter
    dirty = np.where(mask, rows, 1e9)
    filled = fill_holes(torch.from_numpy(dirty), torch.from_numpy(mask), precision)
    np.testing.assert_allclose(filled.numpy(), expected, atol=1e-9)


def test_a_row_without_an_observed_cell_is_the_mean():
    filled = fill_holes(torch.full((1, 3), 7.0), torch.zeros(1, 3, dtype=torch.bool), torch.eye(3, dtype=torch.float64))
    assert filled.tolist() == [[0.0, 0.0, 0.0]]


def test_complete_rows_come_back_unchanged():
    rows = torch.randn(4, 3)
    filled = fill_holes(rows, torch.ones(4, 3, dtype=torch.bool), torch.eye(3, dtype=torch.float64))
    assert torch.equal(filled, rows)
