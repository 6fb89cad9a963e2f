from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np


def random_dag(rng: np.random.Generator, nodes: int, density: float | None = None) -> np.ndarray:
    """(d, d) bool; density and order are random."""
    upper = np.triu(rng.random((nodes, nodes)) < (rng.random() if density is None else density), 1)
    order = rng.permutation(nodes)
    return upper[np.ix_(order, order)]


def every_dag(nodes: int) -> list[np.ndarray]:
    """All labelled DAGs: for each order all subsets of the edges that fit it, each graph once."""
    found = {}
    places = list(zip(*np.triu_indices(nodes, 1), strict=True))
    for order, bits in product(permutations(range(nodes)), product([False, True], repeat=len(places))):
        graph = np.zeros((nodes, nodes), dtype=bool)
        for (i, j), bit in zip(places, bits, strict=True):
            graph[order[i], order[j]] = bit
        found[graph.tobytes()] = graph
    return list(found.values())


def edges_of(graph: np.ndarray) -> Iterator[tuple[int, int]]:
    """The edges as pairs."""
    return ((int(i), int(j)) for i, j in np.argwhere(graph))
