from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.lagged import windows_of
from stablelit.families.causal.moments import gaussian_moments, impute
from stablelit.families.causal.row_statistics import statistics_of_rows, statistics_of_windows


def test_complete_rows_have_their_covariance_and_no_masks(rng):
    values = rng.normal(size=(30, 3)) + 8
    found = statistics_of_rows(values, names=["a", "b", "c"])
    assert found.covariance == pytest.approx(np.cov(values.T, bias=True))
    assert found.n == 30
    assert found.names == ("a", "b", "c")
    assert found.rows == pytest.approx(values - values.mean(axis=0))
    assert found.observed is None
    assert found.scored is None


def test_holes_are_filled_and_remembered(rng):
    values, mask = rng.normal(size=(60, 3)), rng.random((60, 3)) > 0.2
    found, moments = statistics_of_rows(values, mask), gaussian_moments(values, mask)
    assert found.covariance == pytest.approx(moments.covariance)
    assert found.rows == pytest.approx(impute(values, mask, moments.mean, moments.covariance) - moments.mean)
    assert (found.observed == mask).all()
    assert found.n == moments.effective_n


def test_rows_in_which_a_node_was_set_are_left_out_of_its_own_table_only(rng):
    values = rng.normal(size=(50, 3))
    intervened = np.zeros((50, 3), dtype=bool)
    intervened[:20, 1] = True
    found = statistics_of_rows(values, intervened=intervened)
    assert found.covariance.shape == (3, 3, 3)
    assert found.covariance[0] == pytest.approx(np.cov(values.T, bias=True))
    assert found.covariance[1] == pytest.approx(np.cov(values[20:].T, bias=True))
    assert found.n.tolist() == [50, 30, 50]
    assert (found.scored == ~intervened).all()


def test_a_mask_of_no_intervention_is_none(rng):
    values = rng.normal(size=(20, 2))
    assert statistics_of_rows(values, intervened=np.zeros((20, 2), dtype=bool)).covariance.shape == (2, 2)


def test_a_column_held_elsewhere_is_constant_there_and_nobodys_parent(rng):
    values = rng.normal(size=(40, 3))
    values[:25, 0] = 3.0
    intervened = np.zeros((40, 3), dtype=bool)
    intervened[:25, 0] = True
    intervened[25:, 2] = True
    table = statistics_of_rows(values, intervened=intervened).covariance[2]
    assert table[0].tolist() == [0, 0, 0]
    assert table[1:, 1:] == pytest.approx(np.cov(values[:25, 1:].T, bias=True))


def test_a_node_that_was_always_set_is_named(rng):
    intervened = np.zeros((20, 2), dtype=bool)
    intervened[:, 1] = True
    with pytest.raises(DataError, match=r"flow: constant or unobserved in the 0 of 20 rows"):
        statistics_of_rows(rng.normal(size=(20, 2)), intervened=intervened, names=["pump", "flow"])


def test_windows_of_one_row_are_rows(rng):
    values, mask = rng.normal(size=(40, 3)), rng.random((40, 3)) > 0.1
    rows, windows = statistics_of_rows(values, mask), statistics_of_windows(values[:, None], mask[:, None])
    assert (windows.covariance == rows.covariance).all()
    assert (windows.rows == rows.rows).all()


def _remembering(rng, rows=4000):
    values = np.zeros((rows, 2))
    intervened = np.zeros((rows, 2), dtype=bool)
    intervened[rows // 2 :, 1] = True
    for t in range(1, rows):
        values[t, 0] = 0.6 * values[t - 1, 0] + rng.normal()
        own = 1.5 * values[t, 0] + 0.5 * values[t - 1, 1] + rng.normal()
        values[t, 1] = rng.normal() * 3 if intervened[t, 1] else own
    return values, intervened


def test_the_past_is_taken_away(rng):
    values, _ = _remembering(rng)
    windows, mask = windows_of(values[:2000], np.ones((2000, 2), dtype=bool), 1)
    found = statistics_of_windows(windows, mask)
    assert found.covariance == pytest.approx(np.array([[1.0, 1.5], [1.5, 1.5**2 + 1]]), abs=0.25)
    assert found.rows.T @ found.rows / len(found.rows) == pytest.approx(found.covariance)


def test_the_past_is_learned_where_nothing_was_set(rng):
    values, intervened = _remembering(rng)
    windows, mask = windows_of(values, np.ones(values.shape, dtype=bool), 1)
    found = statistics_of_windows(windows, mask, intervened[1:])
    own, other = found.covariance[1], found.covariance[0]
    assert own[0, 1] / own[0, 0] == pytest.approx(1.5, abs=0.1)
    # nothing of the row before is left in it; a past learned from all rows would leave a fifth more
    assert own[1, 1] == pytest.approx(1.5**2 + 1, rel=0.08)
    # where it was set, flow does not follow the pump
    assert other[0, 1] / other[0, 0] == pytest.approx(0.75, abs=0.15)


def test_shapes_are_told(rng):
    with pytest.raises(DataError, match=r"intervened has shape \(20,\)"):
        statistics_of_rows(rng.normal(size=(20, 2)), intervened=np.zeros(20))
    with pytest.raises(DataError, match="windows have shape"):
        statistics_of_windows(rng.normal(size=(20, 2)))
