"""One graph of a Markov equivalence class, by a rule: a choice that data cannot make, made the same way every time.

A Gaussian score is the same for all graphs of a class, so which one a search ends at is an accident of its path. Here
it is the member that follows a given order as far as the class allows.
"""

from __future__ import annotations

import numpy as np

from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.metrics.cpdag import cpdag_of
from stablelit.families.causal.panel import Bools, Ints


def preferred_member(graph: Bools, order: Ints, knowledge: EdgeKnowledge | None = None) -> Bools:
    """The graph of the class of a DAG that the order prefers, (d, d) bool.

    Of the nodes that can be the last one, the one that is latest in the order is, and all its open edges lead to it;
    then the same without it (Dor and Tarsi 1992, *A simple algorithm to construct a consistent extension of a partially
    oriented graph*).

    Args:
        graph: (d, d) bool, a DAG.
        order: (d,) causes first.
        knowledge: open edges follow it. Where that leads to a dead end, `graph` itself is returned.

    Raises:
        DataError: a directed cycle.
    """
    pattern = cpdag_of(graph)
    if (pattern == graph).all():
        return graph
    directed, undirected = pattern & ~pattern.T, pattern & pattern.T
    barred = np.zeros_like(graph) if knowledge is None else knowledge.forbidden | knowledge.required.T
    member, alive = directed.copy(), np.ones(len(graph), dtype=bool)
    place = np.empty(len(graph), dtype=np.int64)
    place[order] = np.arange(len(graph))
    while alive.any():
        last = [x for x in np.flatnonzero(alive) if _can_be_last(int(x), directed, undirected, alive, barred)]
        if not last:
            return graph
        node = max(last, key=place.__getitem__)
        member[undirected[:, node] & alive, node] = True
        alive[node] = False
    return member


def _can_be_last(node: int, directed: Bools, undirected: Bools, alive: Bools, barred: Bools) -> bool:
    if (directed[node] & alive).any():
        return False
    open_edges = undirected[node] & alive
    if (barred[:, node] & open_edges).any():
        return False
    joined = directed | directed.T | undirected
    around = np.flatnonzero(joined[node] & alive)
    # whoever an edge would newly lead from must be joined to all others around, or a v-structure would arise
    block = joined[np.ix_(np.flatnonzero(open_edges), around)]
    return bool((block | (np.flatnonzero(open_edges)[:, None] == around)).all())
