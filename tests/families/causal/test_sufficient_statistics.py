from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.sufficient_statistics import SufficientStatistics


def _covariance(rng, d=3):
    values = rng.normal(size=(40, d)) @ rng.normal(size=(d, d))
    return np.cov(values.T)


def test_standardised_columns_have_variance_1_and_the_same_correlations(rng):
    covariance, rows = _covariance(rng), rng.normal(size=(10, 3))
    found = SufficientStatistics(covariance, 40, rows=rows).standardised()
    assert np.diag(found.covariance) == pytest.approx(1.0)
    scale = np.sqrt(np.diag(covariance))
    assert found.covariance == pytest.approx(covariance / np.outer(scale, scale))
    assert found.rows == pytest.approx(rows / scale)


def test_a_table_of_each_node_is_scaled_by_the_variances_in_its_own_rows(rng):
    tables = np.stack([_covariance(rng) for _ in range(3)])
    statistics = SufficientStatistics(tables, [30, 40, 50], names=("a", "b", "c"))
    own = np.array([tables[j, j, j] for j in range(3)])
    assert statistics.scales == pytest.approx(np.sqrt(own))
    scaled = statistics.standardised()
    assert np.einsum("jjj->j", scaled.covariance) == pytest.approx(1.0)
    assert scaled.covariance[1, 0, 2] == pytest.approx(tables[1, 0, 2] / np.sqrt(own[0] * own[2]))
    weights = np.array([30, 40, 50]) / 120
    assert statistics.pooled_covariance == pytest.approx(np.einsum("j,jab->ab", weights, tables))


def test_fewer_rows_than_columns_still_have_an_inverse(rng):
    rows = rng.normal(size=(5, 9)) * np.logspace(-3, 3, 9)
    correlation = SufficientStatistics(np.cov(rows.T, bias=True), 5).standardised().covariance
    assert np.linalg.eigvalsh(correlation)[0] > 0.01
    assert np.diag(correlation) == pytest.approx(1.0)
    raw = np.corrcoef(rows.T)
    # towards 0 by one share
    shares = correlation[np.triu_indices(9, 1)] / raw[np.triu_indices(9, 1)]
    assert shares == pytest.approx(shares[0])
    assert 0 < shares[0] < 1


def test_independent_columns_are_shrunk_further_than_dependent_ones(rng):
    noise = rng.normal(size=(8, 6))
    together = noise[:, :1] + 0.1 * noise
    off = np.triu_indices(6, 1)

    def share(values):
        shrunk = SufficientStatistics(np.cov(values.T, bias=True), 8).standardised().covariance
        return (shrunk[off] / np.corrcoef(values.T)[off])[0]

    assert share(noise) < share(together)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"covariance": np.eye(1)}, r"shape \(1, 1\)"),
        ({"covariance": np.ones((2, 3))}, r"shape \(2, 3\)"),
        ({"covariance": np.ones((2, 3, 3))}, r"shape \(2, 3, 3\)"),
        ({"covariance": np.diag([1.0, 0.0])}, "flow: the variance is not positive"),
        ({"covariance": np.array([[1.0, np.nan], [np.nan, 1.0]])}, "of pump and flow"),
        ({"covariance": np.array([[1.0, 0.5], [0.4, 1.0]])}, "not symmetric"),
        ({"n": 0.5}, "n=0.5"),
        ({"n": [5.0, 5.0, 5.0]}, "1 or more, one number or 2"),
        ({"n": np.nan}, "n=nan"),
        ({"names": ("a",)}, "1 names for 2 columns"),
        ({"rows": np.ones((4, 3))}, r"rows have shape \(4, 3\)"),
        ({"rows": np.full((4, 2), np.inf)}, "8 values not finite"),
        ({"observed": np.ones((4, 2))}, "there are none"),
        ({"rows": np.ones((4, 2)), "observed": np.ones((3, 2))}, r"observed has shape \(3, 2\)"),
        ({"rows": np.ones((4, 2)), "scored": np.ones(4)}, r"scored has shape \(4,\)"),
    ],
)
def test_what_does_not_go_together_is_told(arguments, words):
    with pytest.raises(DataError, match=words):
        SufficientStatistics(**{"covariance": np.eye(2), "n": 10, "names": ("pump", "flow"), **arguments})
