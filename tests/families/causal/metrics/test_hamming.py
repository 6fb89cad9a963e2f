from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.causal.metrics import StructuralHammingDistance
from tests.families.causal.metrics.conftest import random_dag


def operations(predicted, truth, reversal_cost):
    """By pairs: one operation mends a pair whatever is wrong with it, or as many as entries differ."""
    total = 0
    for i in range(len(truth)):
        for j in range(i):
            mine, true = (predicted[i, j], predicted[j, i]), (truth[i, j], truth[j, i])
            turned = mine == true[::-1] and sum(true) == 1 and mine != true
            total += reversal_cost if turned else sum(a != b for a, b in zip(mine, true, strict=True))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("reversal_cost", [1, 2])
def test_it_is_the_number_of_operations_on_pairs(reversal_cost):
    rng = np.random.default_rng(0)
    for _ in range(200):
        nodes = int(rng.integers(2, 8))
        predicted = rng.random((nodes, nodes)) < rng.random()
        np.fill_diagonal(predicted, False)
        truth = random_dag(rng, nodes)
        metric = StructuralHammingDistance(reversal_cost)
        assert float(metric(predicted, truth)) == operations(predicted, truth, reversal_cost)


def test_a_graph_is_no_distance_from_itself_and_adding_costs_what_leaving_out_does():
    rng = np.random.default_rng(1)
    for _ in range(50):
        truth = random_dag(rng, 6)
        assert float(StructuralHammingDistance()(truth, truth)) == 0
        less = truth & (rng.random(truth.shape) < 0.5)
        assert float(StructuralHammingDistance()(less, truth)) == (truth & ~less).sum()
        assert float(StructuralHammingDistance()(truth, less)) == (truth & ~less).sum()


@pytest.mark.parametrize(("reversal_cost", "both_ways"), [(1, 1), (2, 1)])
def test_the_empty_and_the_complete_graph(reversal_cost, both_ways):
    truth = random_dag(np.random.default_rng(2), 7, 0.4)
    edges, places = int(truth.sum()), 7 * 6
    complete = ~np.eye(7, dtype=bool)
    assert float(StructuralHammingDistance(reversal_cost)(truth & False, truth)) == edges
    # of a pair that is predicted both ways no edge is turned: the wrong one is taken away
    assert float(StructuralHammingDistance(reversal_cost)(complete, truth)) == places - edges
    assert float(StructuralHammingDistance(reversal_cost, normalize=True)(complete, truth)) == pytest.approx(
        1 - edges / places
    )


def test_all_edges_turned_cost_one_or_two_each():
    truth = random_dag(np.random.default_rng(3), 6, 0.5)
    assert float(StructuralHammingDistance(1)(truth.T, truth)) == truth.sum()
    assert float(StructuralHammingDistance(2)(truth.T, truth)) == 2 * truth.sum()


def test_it_is_the_mean_over_graphs_and_the_share_is_of_all_places():
    large, small = torch.ones(3, 3).triu(1), torch.ones(2, 2).triu(1)
    for normalize, value in ((False, (3 + 1) / 2), (True, (3 + 1) / (6 + 2))):
        metric = StructuralHammingDistance(normalize=normalize)
        metric.update(torch.zeros(3, 3), large)
        metric.update(torch.zeros(2, 2), small)
        assert float(metric.compute()) == value


@pytest.mark.parametrize("arguments", [{"reversal_cost": 0}, {"reversal_cost": True}, {"normalize": 1}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ConfigurationError, match=f"StructuralHammingDistance: {next(iter(arguments))}"):
        StructuralHammingDistance(**arguments)
