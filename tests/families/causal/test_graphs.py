from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.graphs import directed_cycle, random_dag, weights_of
from stablelit.functional.edge_thresholds import is_acyclic


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("graph", ["ER", "SF"])
@pytest.mark.parametrize("edges", [None, 0, 1, 17, 45])
def test_graphs_are_acyclic_and_have_the_edges_that_were_asked_for(graph, edges):
    for seed in range(20):
        made = random_dag(10, rng(seed), graph, 2, edges)
        assert is_acyclic(made)
        if edges is not None:
            assert made.sum() == edges


def test_er2_has_two_edges_a_node_on_average():
    counts = [random_dag(20, rng(seed)).sum() for seed in range(400)]
    # binomial: 190 pairs, each joined with 4/19
    p = 4 / 19
    assert np.mean(counts) == pytest.approx(40, abs=4 * np.sqrt(190 * p * (1 - p) / 400))
    assert np.var(counts) == pytest.approx(190 * p * (1 - p), rel=0.3)


@pytest.mark.slow
def test_every_pair_is_joined_either_way_equally_often():
    total = sum(random_dag(4, rng(seed), edges=3).astype(int) for seed in range(4000))
    off = total[~np.eye(4, dtype=bool)]
    # 3 of 6 pairs, either way: a quarter of the draws
    assert (np.abs(off - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)).all()


def test_scale_free_graphs_have_the_edges_of_their_model_and_hubs_that_are_effects():
    hubs_in, hubs_out = [], []
    for seed in range(30):
        made = random_dag(50, rng(seed), "SF", 2)
        assert made.sum() == sum(min(i, 2) for i in range(50))
        # of NOTEARS: a new node points to at most `degree` old ones, which collect many edges
        assert made.sum(axis=1).max() <= 2
        hubs_in.append(made.sum(axis=0).max())
        hubs_out.append(random_dag(50, rng(seed), "ER", 2).sum(axis=0).max())
    assert np.mean(hubs_in) > 1.5 * np.mean(hubs_out)


def test_a_graph_depends_on_its_generator_alone():
    assert (random_dag(9, rng(3), "SF", 3) == random_dag(9, rng(3), "SF", 3)).all()
    assert (random_dag(9, rng(3)) != random_dag(9, rng(4))).any()


def test_weights_are_where_edges_are_in_range_and_of_either_sign():
    graph = random_dag(30, rng(), edges=200)
    weights = weights_of(graph, 0.5, 2.0, rng(1))
    assert ((weights != 0) == graph).all()
    size = np.abs(weights[graph])
    assert size.min() >= 0.5
    assert size.max() <= 2.0
    assert 70 < (weights > 0).sum() < 130


def test_a_cycle_is_found_where_there_is_one():
    for seed in range(200):
        edges = rng(seed).random((6, 6)) < 0.2
        np.fill_diagonal(edges, False)
        cycle = directed_cycle(edges)
        assert bool(cycle) != bool(is_acyclic(edges))
        if cycle:
            assert cycle[0] == cycle[-1]
            assert len(set(cycle[:-1])) == len(cycle) - 1 >= 2
            assert all(edges[i, j] for i, j in pairwise(cycle))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 1}, "nodes=1"),
        ({"nodes": 5, "graph": "ER2"}, "graph='ER2' is not allowed.*ER2 is degree=2"),
        ({"nodes": 5, "edges": 11}, "edges=11 is not allowed. Allowed: at most 10, the pairs of 5 nodes"),
        ({"nodes": 5, "degree": 2.5}, "degree=2.5.*at most 2"),
        ({"nodes": 5, "degree": -1}, "degree=-1"),
        ({"nodes": 5, "graph": "SF", "degree": 1.5}, "degree=1.5.*whole number"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        random_dag(rng=rng(), **arguments)
