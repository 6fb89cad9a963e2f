from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ContractError
from stablelit.families.causal.lagged import lagged_moments
from stablelit.families.causal.statistics import TrainingStatistics

NODES, LAGS, ROWS = 3, 1, 400


def windows(missing=0.0):
    rng = np.random.default_rng(0)
    values = np.zeros((ROWS + LAGS, NODES))
    for t in range(1, len(values)):
        values[t] = 0.5 * values[t - 1] + rng.normal(size=NODES) @ np.array([[1, 0.7, 0], [0, 1, -0.4], [0, 0, 1.0]])
    stacked = np.stack([values[1:], values[:-1]], axis=1) * 10.0 + 3.0
    mask = rng.random(stacked.shape) >= missing
    return np.where(mask, stacked, 0.0), mask


def fitted(missing=0.0):
    values, mask = windows(missing)
    statistics = TrainingStatistics(NODES, LAGS)
    now = values[:, 0]
    centre, scale = torch.from_numpy(now.mean(0)), torch.from_numpy(now.std(0))
    statistics.fit(values, mask, centre, scale, ("a", "b", "c"))
    return statistics, values, mask


def test_innovations_are_the_residuals_of_a_regression_on_the_past():
    statistics, values, mask = fitted()
    scaled = (values - statistics.centre.numpy()) / statistics.scale.numpy()
    past = np.column_stack([scaled[:, 1], np.ones(ROWS)])
    coefficients, *_ = np.linalg.lstsq(past, scaled[:, 0], rcond=None)
    residuals = scaled[:, 0] - past @ coefficients
    np.testing.assert_allclose(statistics.innovations(values, mask), residuals, atol=1e-9)
    np.testing.assert_allclose(statistics.conditional_covariance(), residuals.T @ residuals / ROWS, atol=1e-9)


def test_with_holes_they_are_those_of_the_search_without_lightning():
    statistics, values, mask = fitted(missing=0.2)
    scaled = (values - statistics.centre.numpy()) / statistics.scale.numpy()
    alone = lagged_moments(scaled, mask)
    np.testing.assert_allclose(statistics.conditional_covariance(), alone.covariance, atol=1e-9)
    np.testing.assert_allclose(statistics.innovations(values, mask), alone.residuals(scaled, mask), atol=1e-9)
    # of the cells of both times, not of the newest alone
    assert 0.5 * ROWS < float(statistics.effective_n) < 0.8 * ROWS


def test_rows_are_standardised_and_observed_cells_stay_what_they_are():
    statistics, values, mask = fitted(missing=0.2)
    batch = {"values": torch.from_numpy(values).float(), "mask": torch.from_numpy(mask)}
    rows = statistics.rows(batch)
    assert rows.dtype == torch.float32
    scaled = (values - statistics.centre.numpy()) / statistics.scale.numpy()
    np.testing.assert_allclose(rows.numpy()[mask], scaled[mask], atol=1e-5)
    assert float(rows.abs().max()) < 6.0


def test_a_batch_that_comes_again_is_filled_once_and_another_is_not_taken_for_it():
    statistics, values, mask = fitted(missing=0.2)
    batch = {"values": torch.from_numpy(values), "mask": torch.from_numpy(mask)}
    first = statistics.rows(batch)
    assert statistics.rows(batch) is first
    other = {"values": torch.from_numpy(values) + 1.0, "mask": torch.from_numpy(mask)}
    assert not torch.equal(statistics.rows(other), first)


def test_a_checkpoint_brings_them_and_without_one_there_is_an_error():
    statistics, values, mask = fitted()
    batch = {"values": torch.from_numpy(values), "mask": torch.from_numpy(mask)}
    loaded = TrainingStatistics(NODES, LAGS)
    with pytest.raises(ContractError, match="ckpt_path"):
        loaded.rows(batch)
    loaded.load_state_dict(statistics.state_dict())
    assert torch.equal(loaded.rows(batch), statistics.rows(batch))
