from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.metrics.cpdag import cpdag_distance, cpdag_of
from tests.families.causal.metrics.conftest import edges_of, every_dag, random_dag


def markov_class(graph):
    """Skeleton and v-structures, by their definition (Verma and Pearl 1990)."""
    joined = {frozenset(edge) for edge in edges_of(graph)}
    nodes = range(len(graph))
    colliders = {
        (k, frozenset(pair))
        for k in nodes
        for pair in combinations([i for i in nodes if graph[i, k]], 2)
        if frozenset(pair) not in joined
    }
    return frozenset(joined), frozenset(colliders)


@pytest.mark.parametrize(("nodes", "dags", "classes"), [(2, 3, 2), (3, 25, 11), (4, 543, 185)])
def test_an_edge_is_directed_exactly_where_the_whole_class_agrees(nodes, dags, classes):
    members = defaultdict(list)
    for graph in every_dag(nodes):
        members[markov_class(graph)].append(graph)
    # how many there are is known: OEIS A003024, and Gillispie and Perlman 2002
    assert (sum(map(len, members.values())), len(members)) == (dags, classes)
    for graphs in members.values():
        union = np.any(graphs, axis=0)
        for graph in graphs:
            assert (cpdag_of(graph) == union).all()


def test_meeks_third_rule_is_needed_and_applied():
    # 0 - 1, 0 - 2, 0 - 3, 1 -> 3 <- 2, with 1 and 2 apart: 0 -> 3, or there would be a cycle or a new collider
    graph = np.zeros((4, 4), dtype=bool)
    for i, j in [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]:
        graph[i, j] = True
    found = cpdag_of(graph)
    assert found[0, 3]
    assert not found[3, 0]
    assert found[0, 1]
    assert found[1, 0]


def test_of_larger_graphs_it_has_the_skeleton_keeps_the_colliders_and_is_the_same_for_equivalent_graphs():
    rng = np.random.default_rng(0)
    turned = 0
    for _ in range(60):
        graph = random_dag(rng, 9, 0.3)
        found = cpdag_of(graph)
        assert ((found | found.T) == (graph | graph.T)).all()
        assert (found & graph == graph).all()
        # turning one covered edge (the parents of its ends differ in it alone) stays in the class: Chickering 1995
        covered = [(i, j) for i, j in edges_of(graph) if (graph[:, i] == (graph[:, j] & (np.arange(9) != i))).all()]
        for i, j in covered:
            other = graph.copy()
            other[i, j], other[j, i] = False, True
            assert (cpdag_of(other) == found).all()
            assert found[j, i]
            turned += 1
    assert turned > 50


def test_the_distance_counts_pairs_once():
    none, forward, either = np.zeros((2, 2), dtype=bool), np.array([[0, 1], [0, 0]], dtype=bool), ~np.eye(2, dtype=bool)
    kinds = [none, forward, forward.T, either]
    assert [[cpdag_distance(a, b) for b in kinds] for a in kinds] == (1 - np.eye(4)).tolist()


def test_a_cycle_has_no_cpdag():
    with pytest.raises(DataError, match="cpdag_of: the graph has a directed cycle"):
        cpdag_of(np.array([[0, 1], [1, 0]], dtype=bool))
