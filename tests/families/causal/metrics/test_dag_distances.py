from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.metrics import (
    CPDAGDistance,
    StructuralHammingDistance,
    StructuralInterventionDistance,
    ancestor_adjustment_distance,
    cpdag_distance,
    cpdag_of,
    structural_intervention_distance,
)
from tests.families.causal.metrics.conftest import random_dag

CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
CYCLE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)
both = pytest.mark.parametrize("kind", [CPDAGDistance, StructuralInterventionDistance])


def test_they_are_means_of_the_distances_of_graphs():
    rng = np.random.default_rng(0)
    predicted, truth = (np.stack([random_dag(rng, 6) for _ in range(8)]) for _ in range(2))
    pairs = list(zip(predicted, truth, strict=True))
    for metric, distances, places in (
        (CPDAGDistance, [cpdag_distance(cpdag_of(a), cpdag_of(t)) for a, t in pairs], 15),
        (StructuralInterventionDistance, [structural_intervention_distance(a, t) for a, t in pairs], 30),
    ):
        assert float(metric()(predicted, truth)) == np.mean(distances)
        assert float(metric(normalize=True)(predicted, truth)) == pytest.approx(np.mean(distances) / places)
    by_ancestors = [ancestor_adjustment_distance(a, t) for a, t in pairs]
    assert float(StructuralInterventionDistance("ancestors")(predicted, truth)) == np.mean(by_ancestors)


def test_an_equivalent_graph_is_right_by_the_cpdag_and_wrong_by_its_effects():
    assert float(CPDAGDistance()(CHAIN.T, CHAIN)) == 0
    assert float(StructuralHammingDistance()(CHAIN.T, CHAIN)) == 2
    assert float(StructuralInterventionDistance()(CHAIN.T, CHAIN)) == 6


def test_the_cpdag_distance_of_the_empty_graph_is_the_number_of_true_edges():
    truth = random_dag(np.random.default_rng(1), 8, 0.4)
    assert float(CPDAGDistance()(truth & False, truth)) == truth.sum()


@both
def test_a_predicted_cycle_makes_the_distance_undefined_and_is_counted(kind):
    metric = kind()
    metric.update(np.stack([CHAIN, CYCLE]), CHAIN)
    assert math.isnan(metric.compute())
    assert int(metric.cyclic) == 1


@both
def test_a_true_cycle_is_an_error(kind):
    with pytest.raises(DataError, match=f"{kind.__name__}: 1 of 2 true graphs have a directed cycle.* graph 1"):
        kind().update(np.stack([CHAIN] * 2), np.stack([CHAIN, CYCLE]))


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigurationError, match="by='children' is not allowed.*parents or ancestors"):
        StructuralInterventionDistance("children")
    with pytest.raises(ConfigurationError, match="CPDAGDistance: normalize"):
        CPDAGDistance(normalize="yes")
