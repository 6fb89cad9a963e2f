"""Every graph without a cycle, for tests that try them all; and data from one."""

from __future__ import annotations

import functools
import itertools

import numpy as np


@functools.cache
def all_dags(nodes: int) -> tuple[np.ndarray, ...]:
    """1, 3, 25, 543, ... of them: every subset of the edges that some order allows."""
    found = {}
    for order in itertools.permutations(range(nodes)):
        pairs = [(order[i], order[j]) for i in range(nodes) for j in range(i + 1, nodes)]
        for chosen in itertools.product([False, True], repeat=len(pairs)):
            graph = np.zeros((nodes, nodes), dtype=bool)
            for (i, j), there in zip(pairs, chosen, strict=True):
                graph[i, j] = there
            found[graph.tobytes()] = graph
    return tuple(found.values())


def linear_rows(graph, weights, noise):
    """``x = x W + e`` for noise ``(n, d)``."""
    return noise @ np.linalg.inv(np.eye(len(graph)) - np.where(graph, weights, 0.0))


def random_weights(rng, nodes, low=0.5, high=2.0):
    return rng.uniform(low, high, (nodes, nodes)) * rng.choice([-1, 1], (nodes, nodes))


def random_graph(rng, nodes, share=0.4):
    order = rng.permutation(nodes)
    graph = np.zeros((nodes, nodes), dtype=bool)
    graph[np.ix_(order, order)] = np.triu(rng.random((nodes, nodes)) < share, 1)
    return graph
