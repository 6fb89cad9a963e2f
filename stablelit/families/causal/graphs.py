"""Random directed acyclic graphs: Erdos-Renyi and scale-free, in a random causal order.

"ER2" of the literature is ``degree=2``: two edges a node, ``2 d`` in all. Of every pair of nodes the one that comes
first in a uniformly random order is the cause. Source: Zheng et al. 2018 (arXiv:1803.01422, NOTEARS), section 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import bad_argument
from stablelit.families.causal.panel import Bools
from stablelit.functional.schedules import check_count, check_number

GRAPHS = ("ER", "SF")


def random_dag(
    nodes: int,
    rng: np.random.Generator,
    graph: str = "ER",
    degree: float = 2.0,
    edges: int | None = None,
    owner: str = "random_dag",
) -> Bools:
    """A random directed acyclic graph, ``(d, d)`` True at [i, j] where i -> j.

    ``"ER"``: every pair is joined with probability ``2 degree / (d - 1)``, which makes ``degree d`` edges expected;
    with `edges`, a uniformly random set of so many pairs. ``"SF"`` (Barabasi-Albert): nodes come one after another,
    each points to `degree` of those before it, chosen in proportion to the edges they have received plus one. Its hubs
    are effects, as in NOTEARS. It has exactly ``sum_i min(i, degree)`` edges, or `edges`.

    Args:
        nodes: d.
        rng: what it draws from.
        graph: "ER" or "SF".
        degree: edges a node; of "SF" a whole number.
        edges: how many edges exactly, in place of `degree`.
        owner: for messages.

    Raises:
        ConfigurationError: an argument out of range; more edges than there are pairs.
    """
    check_graph(owner, nodes, graph, degree, edges)
    pairs = nodes * (nodes - 1) // 2
    early, late = np.triu_indices(nodes, k=1)
    ordered = np.zeros((nodes, nodes), dtype=bool)
    if graph == "ER":
        if edges is None:
            joined = np.flatnonzero(rng.random(pairs) < 2.0 * degree / (nodes - 1))
        else:
            joined = rng.choice(pairs, size=edges, replace=False)
        ordered[early[joined], late[joined]] = True
    else:
        received = np.zeros(nodes)
        for node, count in enumerate(_edges_of_new_nodes(nodes, int(degree), edges, rng)):
            weight = received[:node] + 1.0
            hubs = rng.choice(node, size=count, replace=False, p=weight / weight.sum()) if count else []
            received[hubs] += 1.0
            ordered[node, hubs] = True
    order = rng.permutation(nodes)
    shuffled = np.zeros_like(ordered)
    shuffled[np.ix_(order, order)] = ordered
    return shuffled


def check_graph(owner: str, nodes: int, graph: str, degree: float, edges: int | None) -> None:
    """Refuses what `random_dag` cannot make.

    Raises:
        ConfigurationError: an argument out of range; more edges than there are pairs.
    """
    nodes = check_count(owner, "nodes", nodes, 2)
    pairs = nodes * (nodes - 1) // 2
    if graph not in GRAPHS:
        raise bad_argument(owner, "graph", graph, "'ER' (Erdos-Renyi) or 'SF' (scale-free)", "ER2 is degree=2.")
    if edges is not None:
        if check_count(owner, "edges", edges, 0) > pairs:
            raise bad_argument(owner, "edges", edges, f"at most {pairs}, the pairs of {nodes} nodes")
        return
    most = (nodes - 1) / 2 if graph == "ER" else nodes - 1
    check_number(owner, "degree", degree, at_least=0.0, at_most=most)
    if graph == "SF" and degree != int(degree):
        raise bad_argument(owner, "degree", degree, "a whole number, of scale-free graphs", "Or give edges=.")


def weights_of(graph: Bools, low: float, high: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Weights of either sign with absolute values uniform in [`low`, `high`], ``(d, d)``; 0 where there is no edge."""
    size = rng.uniform(low, high, graph.shape)
    return np.where(graph, np.where(rng.random(graph.shape) < 0.5, -size, size), 0.0)


def directed_cycle(edges: Bools) -> list[int]:
    """The nodes of one directed cycle of ``(d, d)``, the first one again at the end; empty where there is none."""
    alive = np.ones(len(edges), dtype=bool)
    while alive.any():
        with_parent = (edges & alive[:, None]).any(axis=0) & alive
        if (with_parent == alive).all():
            break
        alive = with_parent
    if not alive.any():
        return []
    # every node that is left has a parent that is left: going back must come round
    path = [int(np.flatnonzero(alive)[0])]
    while True:
        parent = int(np.flatnonzero(edges[:, path[-1]] & alive)[0])
        if parent in path:
            return [parent, *reversed(path[path.index(parent) :])]
        path.append(parent)


def _edges_of_new_nodes(nodes: int, degree: int, edges: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    room = np.arange(nodes)
    if edges is None:
        return np.minimum(room, degree)
    # as equal as the room of the first nodes allows: the largest level below `edges`, the rest one each at random
    totals = np.minimum(room[None, :], np.arange(nodes)[:, None]).sum(axis=1)
    level = int(np.searchsorted(totals, edges, side="right")) - 1
    counts = np.minimum(room, level)
    able = np.flatnonzero(room > counts)
    counts[rng.choice(able, size=edges - int(counts.sum()), replace=False)] += 1
    return counts
