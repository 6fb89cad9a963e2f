from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.causal.estimate import GraphEstimator
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.statistics import TrainingStatistics
from stablelit.functional.edge_thresholds import is_acyclic

NAMES = ("a", "b", "c")
# a -> b -> c
WEIGHTS = np.array([[0, 1.5, 0], [0, 0, -1.0], [0, 0, 0.0]])


def panel(rows=800, noise="laplace"):
    rng = np.random.default_rng(1)
    values = getattr(rng, noise)(size=(rows, 3)) @ np.linalg.inv(np.eye(3) - WEIGHTS)
    window = values[:, None, :]
    mask = np.ones(window.shape, dtype=bool)
    return SimpleNamespace(values=window, mask=mask, scored=mask[:, 0], environment=np.zeros(rows, dtype=np.int64))


def statistics_of(rows):
    made = TrainingStatistics(3, 0)
    now = rows.values[:, 0]
    made.fit(rows.values, rows.mask, torch.from_numpy(now.mean(0)), torch.from_numpy(now.std(0)), NAMES)
    return made


def estimator(rule="bic", score="non_gaussian", knowledge=None, **settings):
    return GraphEstimator(NAMES, knowledge or EdgeKnowledge(NAMES), rule, score, **settings)


def test_bic_cuts_where_a_smaller_weight_explains_nothing():
    rows = panel()
    scores = torch.tensor([[0.0, 0.8, 0.05], [0.02, 0.0, 0.6], [0.01, 0.03, 0.0]])
    made = estimator()
    made.from_gradient(scores, statistics_of(rows))
    assert np.array_equal(made.graph.numpy(), WEIGHTS != 0)
    assert not made.is_polished


def test_a_number_keeps_what_is_as_large_but_no_cycle():
    scores = torch.tensor([[0.0, 0.8, 0.1], [0.5, 0.0, 0.6], [0.4, 0.05, 0.0]])
    made = estimator(rule=0.3)
    made.from_gradient(scores, statistics_of(panel()))
    # b -> a at .5 closes a cycle, and everything below it goes with it
    assert made.graph.nonzero().tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("rule", ["bic", 0.0])
def test_weights_that_are_all_zero_are_the_empty_graph(rule):
    made = estimator(rule=rule)
    made.from_gradient(torch.zeros(3, 3), statistics_of(panel()))
    assert not made.graph.any()


def test_a_required_edge_is_there_and_a_forbidden_one_is_not_whatever_the_weights_say():
    knowledge = EdgeKnowledge(NAMES, forbidden=[("a", "b")], required=[("c", "a")])
    made = estimator(knowledge=knowledge)
    rows = panel()
    statistics = statistics_of(rows)
    made.from_gradient(torch.tensor([[0.0, 0.9, 0.8], [0.0, 0.0, 0.7], [0.0, 0.0, 0.0]]), statistics)
    for _ in range(2):
        assert made.graph[2, 0]
        assert not made.graph[0, 1]
        assert is_acyclic(made.graph.numpy())
        made.polish(statistics, rows)


def test_polishing_turns_an_edge_that_the_gradient_had_the_wrong_way():
    rows = panel()
    made, statistics = estimator(), statistics_of(rows)
    made.from_gradient(torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0], [0.0, 0.7, 0.0]]), statistics)
    assert made.graph[1, 0]
    made.polish(statistics, rows)
    assert np.array_equal(made.graph.numpy(), WEIGHTS != 0)
    assert np.array_equal(made.gradient_graph.numpy(), (WEIGHTS != 0).T)
    # in the columns' own units
    found = {(e.source, e.target): e.weight for e in made.edge_list(statistics, None)}
    assert found["a", "b"] == pytest.approx(1.5, abs=0.1)
    assert found["b", "c"] == pytest.approx(-1.0, abs=0.1)


def test_rows_in_which_a_node_was_set_from_outside_do_not_count_for_it():
    rows = panel(1200)
    # b is set by hand in half of the rows, where a has no part in it
    rng = np.random.default_rng(2)
    rows.values[600:, 0, 1] = 5.0 * rng.normal(size=600)
    rows.values[600:, 0, 2] = -rows.values[600:, 0, 1] + rng.laplace(size=600)
    statistics = statistics_of(rows)
    rows.scored = rows.scored.copy()
    rows.scored[600:, 1] = False
    made = estimator(score="gaussian")
    made.from_gradient(torch.ones(3, 3), statistics)
    made.polish(statistics, rows)
    found = {(e.source, e.target): e.weight for e in made.edge_list(statistics, None)}
    assert found["a", "b"] == pytest.approx(1.5, abs=0.1)


def test_the_graph_is_in_the_state_and_the_confidence_is_of_the_run():
    rows = panel()
    made, statistics = estimator(bootstrap=8), statistics_of(rows)
    made.from_gradient(torch.from_numpy(np.abs(WEIGHTS)), statistics)
    made.polish(statistics, rows, confidence=True)
    assert made.confidence.draws == 8
    assert float(made.confidence.directed[0, 1]) > 0.8
    loaded = estimator()
    loaded.load_state_dict(made.state_dict())
    assert torch.equal(loaded.graph, made.graph)
    assert loaded.is_polished
    assert loaded.confidence is None


@pytest.mark.parametrize("rule", ["largest", -0.1, True])
def test_another_rule_is_refused(rule):
    with pytest.raises(ConfigurationError, match="rule="):
        estimator(rule=rule)
