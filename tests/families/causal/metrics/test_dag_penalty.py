from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.metrics import DagPenalty
from stablelit.families.causal.metrics.dag_penalty import MEASURED
from tests.families.causal.metrics.conftest import random_dag

every_kind = pytest.mark.parametrize("kind", MEASURED)


def cycle(length, weight):
    matrix = np.zeros((length, length))
    matrix[np.arange(length), (np.arange(length) + 1) % length] = weight
    return matrix


@every_kind
def test_it_is_nothing_exactly_without_a_cycle(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = random_dag(rng, 6, 0.5) * rng.normal(size=(6, 6))
        assert float(DagPenalty(kind)(weights)) == pytest.approx(0, abs=1e-12)
    assert float(DagPenalty(kind)(cycle(6, 0.7))) > 1e-6


def test_of_a_cycle_it_is_the_closed_form():
    # the eigenvalues of W∘W are the L-th roots of w^2L
    for length in (2, 3, 5):
        squared = 0.9**2
        roots = squared * np.exp(2j * np.pi * np.arange(length) / length)
        weights = cycle(length, -0.9)
        assert float(DagPenalty("log_det")(weights)) == pytest.approx(-math.log(1 - squared**length))
        assert float(DagPenalty("exponential")(weights)) == pytest.approx(np.exp(roots).sum().real - length)


@every_kind
def test_the_diagonal_is_not_looked_at(kind):
    weights = np.diag([math.nan, 5.0, math.inf])
    assert float(DagPenalty(kind)(weights)) == 0


def test_beyond_its_domain_it_is_infinite():
    assert float(DagPenalty("log_det")(cycle(3, 1.5))) == math.inf
    assert float(DagPenalty("exponential")(cycle(2, 1e3))) == math.inf
    assert float(DagPenalty("log_det")(random_dag(np.random.default_rng(1), 5, 1.0) * 100.0)) == pytest.approx(0)


def test_two_kinds_in_one_collection_stay_apart():
    collection = MetricCollection({kind: DagPenalty(kind) for kind in MEASURED})
    collection.update(np.zeros((3, 3)))
    collection.update(cycle(3, 0.5))
    expected = {kind: float(DagPenalty(kind)(cycle(3, 0.5))) / 2 for kind in MEASURED}
    assert {kind: float(value) for kind, value in collection.compute().items()} == pytest.approx(expected)
    assert len(set(expected.values())) == 3


def test_it_is_the_mean_over_graphs():
    batch = torch.from_numpy(np.stack([cycle(3, 0.5), np.zeros((3, 3))])).float()
    assert float(DagPenalty()(batch)) == pytest.approx(float(DagPenalty()(batch[0])) / 2)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_is_refused():
    with pytest.raises(ConfigurationError, match="DagPenalty: kind='trace_power'"):
        DagPenalty("trace_power")
    with pytest.raises(DataError, match="DagPenalty: weights: 1 of 4 are NaN"):
        DagPenalty().update(torch.tensor([[0.0, math.nan], [0, 0]]))
    with pytest.raises(DataError, match="no graph was given"):
        DagPenalty().compute()
