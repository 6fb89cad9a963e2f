from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.equivalence import preferred_member
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.metrics.cpdag import cpdag_of
from stablelit.functional.edge_thresholds import is_acyclic
from tests.families.causal.all_dags import all_dags


def _classes(nodes):
    classes = defaultdict(list)
    for graph in all_dags(nodes):
        skeleton = graph | graph.T
        colliders = [
            (i, k, j)
            for i, j, k in itertools.permutations(range(nodes), 3)
            if i < j and graph[i, k] and graph[j, k] and not skeleton[i, j]
        ]
        classes[skeleton.tobytes(), tuple(sorted(colliders))].append(graph)
    return list(classes.values())


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_every_member_of_a_class_leads_to_the_same_member(order):
    classes = _classes(4)
    assert len(classes) == 185
    for members in classes:
        results = {preferred_member(graph, np.array(order)).tobytes() for graph in members}
        assert len(results) == 1
        assert results <= {graph.tobytes() for graph in members}


@pytest.mark.slow
def test_an_order_that_a_member_has_is_followed():
    for members in _classes(4):
        for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 5):
            place = np.argsort(order)
            fitting = [g for g in members if all(place[i] < place[j] for i, j in np.argwhere(g))]
            if fitting:
                assert len(fitting) == 1
                assert (preferred_member(members[-1], np.array(order)) == fitting[0]).all()


def test_knowledge_is_never_broken():
    knowledge = EdgeKnowledge(list("abcd"), required=[("b", "a")], forbidden=[("c", "d"), ("d", "b")])
    followed = 0
    for graph in all_dags(4):
        if knowledge.permits(graph):
            member = preferred_member(graph, np.array([0, 2, 3, 1]), knowledge)
            assert knowledge.permits(member)
            assert is_acyclic(member)
            assert (cpdag_of(member) == cpdag_of(graph)).all()
            followed += bool((member != graph).any())
    assert followed


def test_a_cycle_has_no_class():
    with pytest.raises(DataError, match="cycle"):
        preferred_member(np.array([[0, 1], [1, 0]], dtype=bool), np.array([0, 1]))
