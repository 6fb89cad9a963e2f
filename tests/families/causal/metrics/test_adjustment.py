from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.metrics.adjustment import ancestor_adjustment_distance, structural_intervention_distance
from stablelit.families.causal.metrics.relations import reachable
from tests.families.causal.metrics.conftest import every_dag, random_dag


def ancestors_of(graph):
    """By walks of every length up to d."""
    reach, walk = np.eye(len(graph), dtype=bool), np.eye(len(graph), dtype=bool)
    for _ in range(len(graph)):
        walk = (walk.astype(int) @ graph.astype(int)) > 0
        reach = reach | walk
    return reach


def wrong_effects(adjustment, no_effect, truth, rng):
    """By regression in a linear Gaussian model on the true graph with random weights.

    A set is valid exactly if, whatever the weights, the coefficient of t in the regression of y on t and the set is the
    total effect, the entry of (I - W)^-1; weights drawn at random have no coincidences.
    """
    nodes = len(truth)
    weights = truth * rng.uniform(0.5, 2.0, truth.shape) * rng.choice([-1, 1], truth.shape)
    effects = np.linalg.inv(np.eye(nodes) - weights)
    covariance = effects.T @ np.diag(rng.uniform(0.5, 2.0, nodes)) @ effects
    wrong = 0
    for t in range(nodes):
        for y in range(nodes):
            if y == t:
                continue
            if no_effect[t, y]:
                estimate = 0.0
            else:
                among = [t, *np.flatnonzero(adjustment[t])]
                estimate = np.linalg.solve(covariance[np.ix_(among, among)], covariance[among, y])[0]
            wrong += abs(estimate - effects[t, y]) > 1e-7
    return wrong


def by_regression(kind, predicted, truth, rng):
    if kind == "parents":
        return wrong_effects(predicted.T, predicted.T, truth, rng)
    reach = ancestors_of(predicted)
    return wrong_effects(reach.T & ~np.eye(len(truth), dtype=bool), ~reach, truth, rng)


DISTANCES = {"parents": structural_intervention_distance, "ancestors": ancestor_adjustment_distance}
both = pytest.mark.parametrize("kind", DISTANCES)


@pytest.mark.slow
@both
def test_of_all_pairs_of_three_nodes_it_is_the_number_of_wrong_regressions(kind):
    rng, graphs = np.random.default_rng(0), every_dag(3)
    for predicted in graphs:
        for truth in graphs:
            assert DISTANCES[kind](predicted, truth) == by_regression(kind, predicted, truth, rng)


@pytest.mark.slow
@both
def test_of_larger_graphs_too(kind):
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(150):
        nodes = int(rng.integers(4, 8))
        predicted, truth = random_dag(rng, nodes), random_dag(rng, nodes)
        expected = by_regression(kind, predicted, truth, rng)
        assert DISTANCES[kind](predicted, truth) == expected
        seen.add(expected)
    assert len(seen) > 10


def test_the_published_example():
    # Peters and Buehlmann 2015, figure 1: both have structural Hamming distance 1 to G, and distances 0 and 8
    truth = np.zeros((5, 5), dtype=bool)
    for i, j in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]:
        truth[i, j] = True
    added, turned = truth.copy(), truth.copy()
    added[2, 3] = True
    turned[0, 1], turned[1, 0] = False, True
    assert structural_intervention_distance(added, truth) == 0
    assert structural_intervention_distance(turned, truth) == 8


@both
def test_a_graph_has_no_wrong_effects_and_neither_has_one_with_more_edges_in_its_order(kind):
    rng = np.random.default_rng(2)
    for _ in range(50):
        complete = random_dag(rng, 6, 1.0)
        truth = complete & (rng.random((6, 6)) < 0.4)
        assert DISTANCES[kind](truth, truth) == 0
        assert DISTANCES[kind](complete, truth) == 0


def test_the_empty_graph_errs_where_there_is_an_effect_that_is_confounded_or_any_reverse_one():
    # 0 -> 1: its own effect is right without adjustment, the reverse effect of 1 on 0 is not
    assert structural_intervention_distance(np.zeros((2, 2), bool), np.array([[0, 1], [0, 0]], bool)) == 1


def test_ancestors_judge_the_order_alone():
    rng = np.random.default_rng(3)
    for _ in range(30):
        truth, predicted = random_dag(rng, 6), random_dag(rng, 6)
        closure = ancestors_of(predicted) & ~np.eye(6, dtype=bool)
        assert ancestor_adjustment_distance(predicted, truth) == ancestor_adjustment_distance(closure, truth)


def test_reachable_is_walks_of_any_length():
    rng = np.random.default_rng(4)
    for _ in range(30):
        graph = rng.random((7, 7)) < 0.2
        assert (reachable(graph) == ancestors_of(graph)).all()


@both
def test_cycles_are_refused_by_name(kind):
    cycle, fine = np.array([[0, 1], [1, 0]], bool), np.zeros((2, 2), bool)
    with pytest.raises(DataError, match="the predicted graph has a directed cycle"):
        DISTANCES[kind](cycle, fine)
    with pytest.raises(DataError, match="the truth graph has a directed cycle"):
        DISTANCES[kind](fine, cycle)
