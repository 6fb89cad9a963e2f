from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.causal.metrics import Varsortability
from stablelit.families.causal.sortability import varsortability
from tests.families.causal.metrics.conftest import random_dag


def test_it_is_the_families_varsortability_of_the_same_data():
    rng = np.random.default_rng(0)
    graph, values = random_dag(rng, 6, 0.5), rng.normal(size=(50, 6)) * rng.uniform(0.1, 10, 6)
    covariance = np.cov(values.T)
    expected = varsortability(values, graph)
    assert 0 < expected < 1
    assert float(Varsortability()(covariance, graph)) == pytest.approx(expected)
    assert float(Varsortability()(torch.from_numpy(values.var(axis=0)), graph)) == pytest.approx(expected)


def test_standardised_columns_say_nothing_and_sorted_ones_all():
    graph = random_dag(np.random.default_rng(1), 7, 0.5)
    assert float(Varsortability()(np.ones(7), graph)) == 0.5
    upper = np.triu(np.ones((7, 7)), 1)
    assert float(Varsortability()(np.arange(1, 8.0), upper)) == 1
    assert float(Varsortability()(np.arange(1, 8.0), upper.T)) == 0


def test_it_is_the_mean_over_graphs_that_have_edges():
    metric = Varsortability()
    metric.update(np.array([1.0, 2.0]), np.array([[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]))
    assert float(metric.compute()) == 0.5
    assert int(metric.without_edges) == 1
    assert math.isnan(Varsortability()(np.array([1.0, 2.0]), np.zeros((2, 2))))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_what_has_no_scale_is_refused():
    chain = np.array([[0, 1], [0, 0]])
    with pytest.raises(DataError, match="variance of column 1 is 0"):
        Varsortability().update(np.array([1.0, 0.0]), chain)
    with pytest.raises(DataError, match="variance of column 0 is nan"):
        Varsortability().update(np.array([math.nan, 1.0]), chain)
    with pytest.raises(DataError, match=r"a scale of shape \(3,\) for graphs of 2 nodes"):
        Varsortability().update(np.ones(3), chain)
    with pytest.raises(DataError, match="no graph was given"):
        Varsortability().compute()
