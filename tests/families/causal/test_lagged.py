from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.lagged import effective_rows, lagged_moments, windows_of


def _svar(rng, rows, weights, lagged):
    mixing = np.linalg.inv(np.eye(len(weights)) - weights)
    x = np.zeros((rows, len(weights)))
    for t in range(1, rows):
        x[t] = (x[t - 1] @ lagged + rng.normal(size=len(weights))) @ mixing
    return x


def test_windows_hold_the_newest_row_first():
    values = np.arange(10.0).reshape(5, 2)
    windows, mask = windows_of(values, values > 3, lags=2)
    assert windows.shape == mask.shape == (3, 3, 2)
    assert windows[0].tolist() == [[4, 5], [2, 3], [0, 1]]
    assert (mask == (windows > 3)).all()


def test_no_window_reaches_into_another_recording():
    values = np.arange(7.0)[:, None]
    windows, _ = windows_of(values, values > -1, 2, recordings=np.array([0, 0, 0, 0, 1, 1, 1]))
    assert windows[:, :, 0].tolist() == [[2, 1, 0], [3, 2, 1], [6, 5, 4]]


@pytest.mark.parametrize("lags", [-1, 1.5, True])
def test_lags_are_whole_numbers(lags):
    with pytest.raises(ConfigurationError, match="lags"):
        windows_of(np.zeros((4, 2)), np.ones((4, 2), dtype=bool), lags)


def test_recordings_that_are_too_short_are_told():
    with pytest.raises(DataError, match="none of 4 rows has 2 rows of its recording"):
        windows_of(np.zeros((4, 2)), np.ones((4, 2), dtype=bool), 2, np.array([0, 0, 1, 1]))


def test_residuals_are_those_of_a_regression_on_the_past(rng):
    values = np.cumsum(rng.normal(size=(80, 3)), axis=0) * [1, 1e3, 1e-3] + 7
    windows, mask = windows_of(values, np.ones(values.shape, dtype=bool), 2)
    found = lagged_moments(windows, mask)
    past = np.column_stack([windows[:, 1], windows[:, 2], np.ones(len(windows))])
    slopes, *_ = np.linalg.lstsq(past, windows[:, 0], rcond=None)
    residuals = windows[:, 0] - past @ slopes
    assert found.residuals(windows, mask) == pytest.approx(residuals, rel=1e-6, abs=1e-9)
    assert found.covariance == pytest.approx(residuals.T @ residuals / len(residuals))
    assert found.lag_coefficients.reshape(6, 3) == pytest.approx(slopes[:-1], rel=1e-5, abs=1e-9)
    assert found.effective_n == len(windows)


def test_lagged_edges_come_back_from_those_within_a_row(rng):
    weights, lagged = np.array([[0, 0.8, 0], [0, 0, -1.2], [0, 0, 0]]), np.diag([0.5, 0.2, -0.4])
    lagged[2, 0] = 0.3
    values = _svar(rng, 20_000, weights, lagged)
    mask = rng.random(values.shape) > 0.1
    windows, seen = windows_of(np.where(mask, values, np.nan), mask, 1)
    found = lagged_moments(np.where(seen, windows, 0.0), seen)
    mixing = np.linalg.inv(np.eye(3) - weights)
    assert found.structural_lags(weights)[0] == pytest.approx(lagged, abs=0.04)
    assert found.covariance == pytest.approx(mixing.T @ mixing, abs=0.1)
    assert found.effective_n == pytest.approx(0.81 * len(windows), rel=0.02)


def test_without_lags_nothing_is_taken_away(rng):
    values = rng.normal(size=(40, 1, 3)) + 4
    found = lagged_moments(values)
    assert found.covariance == pytest.approx(np.cov(values[:, 0].T, bias=True))
    assert found.lag_coefficients.shape == (0, 3, 3)
    assert found.residuals(values, np.ones(values.shape, dtype=bool)) == pytest.approx(
        values[:, 0] - values[:, 0].mean(axis=0)
    )


def test_too_few_windows_are_told(rng):
    with pytest.raises(DataError, match=r"11 windows for 6 columns \(3 at 2 times\)"):
        lagged_moments(rng.normal(size=(11, 2, 3)))
    with pytest.raises(DataError, match="windows have shape"):
        lagged_moments(rng.normal(size=(11, 3)))


def test_a_column_is_named_with_its_lag(rng):
    windows = rng.normal(size=(40, 2, 2))
    mask = np.ones(windows.shape, dtype=bool)
    mask[:, 1, 1] = False
    with pytest.raises(DataError, match="flow at lag 1"):
        lagged_moments(windows, mask, names=["pump", "flow"])


def test_rows_that_remember_are_worth_fewer(rng):
    noise = rng.normal(size=(40_000, 3))
    for t in range(1, len(noise)):
        noise[t] += np.array([0.0, 0.6, -0.5]) * noise[t - 1]
    expected = 40_000 * np.array([1.0, 0.25, 1.0])
    assert effective_rows(noise) == pytest.approx(expected, rel=0.06)
    stretches = np.arange(len(noise)) // 2
    assert effective_rows(noise, recordings=stretches) == pytest.approx(expected, rel=0.08)


def test_autocorrelation_is_that_of_pairs_that_were_both_observed(rng):
    noise = rng.normal(size=(20_000, 1))
    for t in range(1, len(noise)):
        noise[t] += 0.8 * noise[t - 1]
    mask = rng.random(noise.shape) > 0.3
    assert effective_rows(np.where(mask, noise, np.nan), mask)[0] == pytest.approx(mask.sum() / 9, rel=0.15)
