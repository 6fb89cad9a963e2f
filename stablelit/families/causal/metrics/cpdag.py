r"""The Markov equivalence class of a DAG, as its CPDAG.

From observations of linear Gaussian data alone no method can tell DAGs of one class apart. They are those with the same
skeleton and the same v-structures i -> k <- j, i and j not joined (Verma and Pearl 1990). The CPDAG directs the edges
that point one way in the whole class, and only those. In a CPDAG ``P``, (d, d) bool,

=====================  ==================================
``P[i, j], ~P[j, i]``  i -> j in every DAG of the class
``P[i, j], P[j, i]``   i - j: either way in some of them
=====================  ==================================
"""

from __future__ import annotations

import numpy as np

from stablelit.errors import DataError
from stablelit.families.causal.metrics.relations import composed, skeleton
from stablelit.functional.edge_thresholds import is_acyclic
from stablelit.functional.score_groups import Array


def v_structure_edges(graph: Array) -> Array:
    """(d, d) bool, the edges i -> k of a DAG for which there is a j with i -> k <- j and i, j not joined."""
    return graph & composed(_not_joined(graph), graph)


def cpdag_of(graph: Array) -> Array:
    """(d, d) bool, the CPDAG of a DAG: its v-structures, then Meek's rules 1 to 3 until nothing changes.

    Rule 4 is for orientations that are known beforehand; without them it never applies. Source: Meek 1995 (UAI),
    section 2.1.

    Args:
        graph: (d, d) bool without self-loops.

    Raises:
        DataError: a directed cycle.

    Example:
        >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
        >>> cpdag_of(chain).astype(int).tolist()
        [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    if not is_acyclic(graph):
        raise DataError(
            "cpdag_of: the graph has a directed cycle, so it has no CPDAG. Take away edges until it is acyclic."
        )
    apart = _not_joined(graph)
    directed = v_structure_edges(graph)
    undirected = (graph & ~directed) | (graph & ~directed).T
    while undirected.any():
        # 1: a -> b - c with a, c apart is b -> c, for it would be a new v-structure; 2: a -> b -> c and a - c is a -> c
        new = undirected & (composed(directed.T, apart) | composed(directed, directed))
        new |= _third_rule(directed, undirected, apart)
        if not new.any():
            break
        directed |= new
        undirected &= ~(new | new.T)
    return directed | undirected


def cpdag_distance(predicted: Array, truth: Array) -> int:
    """How many pairs of nodes are joined otherwise (not at all, one way, the other way, either way) in two CPDAGs.

    Args:
        predicted: (..., d, d) bool CPDAGs.
        truth: the same shape.
    """
    return int(skeleton(predicted != truth).sum())


def _third_rule(directed: Array, undirected: Array, apart: Array) -> Array:
    """Meek's rule 3: a -> b where a - b, and a - c -> b, a - d -> b with c, d apart."""
    new = np.zeros_like(directed)
    for a in np.flatnonzero(undirected.any(axis=1)):
        around = np.flatnonzero(undirected[a])
        into = directed[around]
        new[a] = undirected[a] & (composed(apart[np.ix_(around, around)], into) & into).any(axis=0)
    return new


def _not_joined(graph: Array) -> Array:
    return ~(graph | graph.T | np.eye(len(graph), dtype=bool))
