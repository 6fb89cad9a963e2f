from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from stablelit.families.causal import parent_trees
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.node_scores import GROWTH_SHARE, SCORES, GaussianScore
from stablelit.families.causal.parent_trees import ParentTrees
from stablelit.families.causal.row_statistics import statistics_of_rows
from stablelit.families.causal.sufficient_statistics import SufficientStatistics
from tests.families.causal.all_dags import linear_rows, random_graph, random_weights


def _score(seed, nodes=6, n=150, name="gaussian", **arguments):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes)
    rows = linear_rows(graph, random_weights(rng, nodes, 0.1, 1.0), rng.laplace(size=(n, nodes)))
    return SCORES[name](statistics_of_rows(rows, **arguments))


def _grown_and_shrunk(score, node, before, required=()):
    """The same by the scores of whole sets of parents, one at a time."""
    parents = [i for i in required]
    price = float(score.price[node])

    def bare(chosen):
        return score.of_node(node, chosen) - score.beyond_covariance(node, tuple(sorted(chosen)))

    while len(parents) < score.most_parents[node]:
        offers = {i: bare([*parents, i]) for i in before if i not in parents}
        best = min(offers, key=offers.get, default=None)
        # a set is charged the full price, growing half of it
        if best is None or offers[best] - (1 - GROWTH_SHARE) * price >= bare(parents):
            break
        parents.append(best)
    while True:
        offers = {i: bare([j for j in parents if j != i]) for i in parents if i not in required}
        worst = min(offers, key=offers.get, default=None)
        if worst is None or offers[worst] >= bare(parents):
            return score.of_node(node, parents), tuple(sorted(parents))
        parents.remove(worst)


def _all_questions(nodes):
    return [(j, prefix) for j in range(nodes) for prefix in range(1 << nodes) if not prefix >> j & 1]


def _nodes_of(prefix):
    return [i for i in range(prefix.bit_length()) if prefix >> i & 1]


@pytest.mark.parametrize("name", ["gaussian", "equal_variance", "non_gaussian"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_answer_is_what_growing_and_shrinking_by_hand_gives(name, seed):
    score = _score(seed, name=name)
    trees = ParentTrees(score, EdgeKnowledge.nothing(6))
    trees.answer(_all_questions(6))
    for node, prefix in _all_questions(6):
        value, parents = _grown_and_shrunk(score, node, _nodes_of(prefix))
        assert trees.value(node, prefix) == pytest.approx(value, abs=1e-6)
        assert trees.parents(node, prefix) == parents


def test_asking_one_by_one_or_all_at_once_is_the_same():
    score = _score(3)
    together, alone = (ParentTrees(score, EdgeKnowledge.nothing(6)) for _ in range(2))
    together.answer(_all_questions(6))
    for node, prefix in reversed(_all_questions(6)):
        assert alone.value(node, prefix) == together.answers[node][prefix]


@pytest.mark.parametrize("name", ["BATCH_NUMBERS", "KEPT_NUMBERS", "KEPT_ANSWERS"])
def test_limits_of_memory_change_no_answer(monkeypatch, name):
    score = _score(4)
    free = ParentTrees(score, EdgeKnowledge.nothing(6))
    free.answer(_all_questions(6))
    monkeypatch.setattr(parent_trees, name, 40)
    tight = ParentTrees(score, EdgeKnowledge.nothing(6))
    for node, prefix in _all_questions(6):
        tight.answer([(node, prefix)])
        assert tight.answers[node][prefix] == free.answers[node][prefix]
        tight.forget()
    if name == "KEPT_ANSWERS":
        assert sum(map(len, tight.answers)) <= 41


def test_answers_where_every_node_has_rows_of_its_own():
    rng = np.random.default_rng(5)
    rows = linear_rows(random_graph(rng, 5), random_weights(rng, 5), rng.normal(size=(200, 5)))
    intervened = np.zeros(rows.shape, dtype=bool)
    intervened[:50, 0] = intervened[40:90, 2] = True
    rows[:50, 0] = rng.normal(size=50)
    score = GaussianScore(statistics_of_rows(rows, intervened=intervened))
    trees = ParentTrees(score, EdgeKnowledge.nothing(5))
    for node, prefix in _all_questions(5):
        value, parents = _grown_and_shrunk(score, node, _nodes_of(prefix))
        assert trees.value(node, prefix) == pytest.approx(value, abs=1e-6)
        assert trees.parents(node, prefix) == parents


def test_forbidden_edges_are_never_taken_and_required_ones_always():
    score = _score(6)
    names = [f"x{i}" for i in range(6)]
    knowledge = EdgeKnowledge(names, required=[(0, 3), (1, 3), (2, 5)], forbidden=[(4, 5), (0, 5), (3, 2)])
    trees = ParentTrees(score, knowledge)
    for node, prefix in _all_questions(6):
        required = np.flatnonzero(knowledge.required[:, node]).tolist()
        allowed = [i for i in _nodes_of(prefix) if knowledge.allowed[i, node]]
        if not set(required) <= set(allowed):
            assert trees.value(node, prefix) == math.inf
            continue
        value, parents = _grown_and_shrunk(score, node, allowed, required)
        assert trees.value(node, prefix) == pytest.approx(value, abs=1e-6)
        assert trees.parents(node, prefix) == parents


def test_causes_that_cancel_are_found_together():
    """Neither a nor b is worth a full price alone: b's effect through a is nearly that of its own edge."""
    n = 1000
    covariance = np.linalg.inv(np.eye(3) - np.array([[0, 1, -0.93], [0, 0, 1.0], [0, 0, 0]]))
    statistics = SufficientStatistics(covariance.T @ np.diag([1.0, 0.09, 40.0]) @ covariance, n)
    score = GaussianScore(statistics)
    alone = [score.of_node(2, (i,)) for i in (0, 1)]
    assert min(alone) > score.of_node(2, ()) - score.price[0]
    trees = ParentTrees(score, EdgeKnowledge.nothing(3))
    best = min(score.of_node(2, p) for p in ((), (0,), (1,), (0, 1)))
    assert trees.value(2, 0b011) == pytest.approx(best)


def test_no_node_has_more_parents_than_rows_allow():
    rng = np.random.default_rng(0)
    score = GaussianScore(statistics_of_rows(rng.normal(size=(5, 8))), penalty=0.0)
    trees = ParentTrees(score, EdgeKnowledge.nothing(8))
    assert {len(trees.parents(j, 0xFF & ~(1 << j))) for j in range(8)} <= {0, 1, 2, 3}


def test_a_column_that_is_constant_in_the_rows_of_a_node_is_not_its_parent_unless_required():
    table = np.zeros((3, 3))
    table[np.ix_([0, 1], [0, 1])] = [[1.0, 0.9], [0.9, 1.0]]
    tables = np.stack([table, table, np.eye(3)])
    score = GaussianScore(SufficientStatistics(tables, 500))
    with np.errstate(all="raise"):
        trees = ParentTrees(score, EdgeKnowledge.nothing(3))
        assert trees.parents(0, 0b110) == (1,)
        required = ParentTrees(score, EdgeKnowledge(["a", "b", "c"], required=[("c", "a")]))
        assert required.parents(0, 0b110) == (1, 2)


def test_collinear_candidates_are_not_taken_together():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2))
    rows = np.column_stack([rows, rows.sum(axis=1), rows[:, 0] + rng.normal(size=300)])
    score = GaussianScore(statistics_of_rows(rows))
    trees = ParentTrees(score, EdgeKnowledge.nothing(4))
    with np.errstate(all="raise"):
        for size in range(4):
            for before in itertools.combinations(range(3), size):
                assert np.isfinite(trees.value(3, sum(1 << i for i in before)))
    assert trees.parents(3, 0b111) == (0,)
