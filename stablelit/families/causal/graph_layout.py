"""Where the nodes of a directed graph lie in a picture, and by which way its edges go round the nodes.

Sugiyama, Tagawa, Toda 1981 (IEEE SMC 11): nodes in layers, causes above effects; an edge that passes a layer gets a
place of its own there, so that no edge crosses a node; the order within layers is improved by barycentres until edges
cross seldom; then nodes move sideways towards their neighbours as far as the order leaves room. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stablelit.functional.edge_thresholds import is_acyclic
from stablelit.functional.score_groups import Array

_STARTS, _SWEEPS = 4, 12
_BEND_WIDTH = 0.12


@dataclass(frozen=True)
class Layout:
    """Places in the units of `widths`; y falls from causes to effects.

    Args:
        nodes: (d, 2) centres.
        ways: by edge (i, j), (k, 2) points from i to j: the two centres and, between them, one in each layer passed.
        crossings: how often edges cross between layers.
    """

    nodes: Array
    ways: dict[tuple[int, int], Array]
    crossings: int


def layered_layout(
    graph: Array, widths: Sequence[float], gap: float = 0.25, layer_height: float = 1.0, first: Array | None = None
) -> Layout:
    """Lays a graph out.

    Args:
        graph: (d, d) bool; where it has cycles, some edges lead upwards.
        widths: (d,) of the nodes.
        gap: between two nodes of a layer.
        layer_height: between two layers.
        first: (d, d) bool, those edges that decide which nodes lie above which, such as the estimate where `graph`
            has missing edges besides; None is all.
    """
    order = _causal_order(graph if first is None else graph & first)
    down = _downwards(graph, order)
    joined = down.any(axis=0) | down.any(axis=1)
    layers = _layers_of(down, order)
    chains = _chains(down, layers)
    count = len(graph) + sum(len(chain) - 2 for chain in chains.values())
    size = np.full(count, _BEND_WIDTH)
    size[: len(graph)] = widths
    links = [pair for chain in chains.values() for pair in pairwise(chain)]
    level = np.empty(count, dtype=int)
    level[: len(graph)] = layers
    for (i, _), chain in chains.items():
        level[chain[1:-1]] = layers[i] + np.arange(1, len(chain) - 1)
    upper, lower = (np.array([pair[end] for pair in links], dtype=int) for end in (0, 1))
    movable = np.concatenate([joined, np.ones(count - len(graph), dtype=bool)])
    rows = [np.flatnonzero((level == row) & movable) for row in range(int(layers[joined].max(initial=-1)) + 1)]
    rows, crossings = _untangled(rows, upper, lower, level)
    # long edges are the straighter the more of them is bends: Gansner et al. 1993 (IEEE TSE 19), section 4
    pulls = np.array([1.0, 2.0, 8.0])[(upper >= len(graph)).astype(int) + (lower >= len(graph))]
    x = _sideways(rows, upper, lower, pulls, size, gap)
    y = -level * layer_height
    places = np.stack([x, y.astype(np.float64)], axis=1)
    _put_apart(places, np.flatnonzero(~joined), size, gap, -len(rows) * layer_height, layer_height)
    ways = {}
    for (i, j), chain in chains.items():
        for edge in ((i, j), (j, i)):
            if graph[edge]:
                ways[edge] = places[chain if edge == (i, j) else chain[::-1]]
    return Layout(places[: len(graph)], ways, crossings)


def _causal_order(graph: Array) -> Array:
    """Causes first; in a cycle the node with the fewest remaining causes and the most effects goes first."""
    left, order = np.ones(len(graph), dtype=bool), []
    while left.any():
        causes = (graph & left[:, None]).sum(axis=0)
        effects = (graph & left[None, :]).sum(axis=1)
        candidates = np.flatnonzero(left)
        free = candidates[causes[candidates] == 0]
        chosen = free if len(free) else candidates[[np.argmin((causes - effects)[candidates])]]
        order.extend(chosen.tolist())
        left[chosen] = False
    return np.array(order)


def _downwards(graph: Array, order: Array) -> Array:
    """Every edge turned so that it follows the order; two that point at each other become one."""
    rank = np.argsort(order)
    joined = graph | graph.T
    return np.asarray(joined & (rank[:, None] < rank[None, :]))


def _layers_of(down: Array, order: Array) -> Array:
    """(d,) the longest way from a cause; then a node with more effects than causes comes down to its effects."""
    assert is_acyclic(down)
    layers = np.zeros(len(down), dtype=int)
    for node in order:
        causes = np.flatnonzero(down[:, node])
        layers[node] = layers[causes].max(initial=-1) + 1
    for node in order[::-1]:
        effects = np.flatnonzero(down[node])
        if len(effects) > down[:, node].sum():
            layers[node] = layers[effects].min() - 1
    return layers


def _chains(down: Array, layers: Array) -> dict[tuple[int, int], list[int]]:
    """By edge its ends and, between them, a number for each layer that it passes."""
    chains, following = {}, len(down)
    for i, j in np.argwhere(down).tolist():
        passed = int(layers[j] - layers[i]) - 1
        chains[i, j] = [i, *range(following, following + passed), j]
        following += passed
    return chains


def _untangled(rows: list[Array], upper: Array, lower: Array, level: Array) -> tuple[list[Array], int]:
    """The rows in an order with few crossings: the best of several starts, of barycentre sweeps down and up."""
    rng, best, fewest = np.random.default_rng(0), rows, -1
    around = [(upper[lower == node], lower[upper == node]) for node in range(len(level))]
    for start in range(_STARTS):
        place = np.zeros(len(level))
        rows = [row.copy() if start == 0 else rng.permutation(row) for row in rows]
        for row in rows:
            place[row] = np.arange(len(row))
        for sweep in range(_SWEEPS):
            rows = _swept(rows, around, place, downwards=sweep % 2 == 0)
            now = _all_crossings(rows, upper, lower, level, place)
            if now < fewest or fewest < 0:
                best, fewest = [row.copy() for row in rows], now
            if fewest == 0:
                return best, fewest
    return best, max(fewest, 0)


def _swept(rows: list[Array], around: list[tuple[Array, Array]], place: Array, downwards: bool) -> list[Array]:
    """Each row by the mean places of its neighbours in the row before; then neighbours exchanged while it helps."""
    numbers = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
    for number in numbers:
        row = rows[number]
        others = [place[around[node][0 if downwards else 1]] for node in row]
        centres = [mine.mean() if len(mine) else place[node] for mine, node in zip(others, row, strict=True)]
        rows[number] = row[np.argsort(centres, kind="stable")]
        place[rows[number]] = np.arange(len(row))
    for row in rows:
        _exchange(row, around, place)
    return rows


def _exchange(row: Array, around: list[tuple[Array, Array]], place: Array) -> None:
    """Neighbours of a row change places where fewer edges cross then, until none helps."""
    beside = {int(node): [place[others] for others in around[node]] for node in row}
    helped = True
    while helped:
        helped = False
        for k in range(len(row) - 1):
            a, b = int(row[k]), int(row[k + 1])
            gain = 0
            for p, q in zip(beside[a], beside[b], strict=True):
                gain += int(np.sign(p[:, None] - q[None, :]).sum())
            if gain > 0:
                row[k], row[k + 1] = b, a
                place[a], place[b] = k + 1, k
                helped = True


def _all_crossings(rows: list[Array], upper: Array, lower: Array, level: Array, place: Array) -> int:
    total = 0
    for number in range(len(rows) - 1):
        here = level[upper] == number
        above, below = place[upper[here]], place[lower[here]]
        total += int(((above[:, None] < above) & (below[:, None] > below)).sum())
    return total


def _sideways(rows: list[Array], upper: Array, lower: Array, pulls: Array, size: Array, gap: float) -> Array:
    """(n,) x: each row is moved towards the mean of its neighbours, its order and its gaps kept."""
    x, neighbours = np.zeros(len(size)), _neighbours(upper, lower, pulls, len(size))
    starts = []
    for row in rows:
        between = (size[row][1:] + size[row][:-1]) / 2 + gap
        starts.append(np.concatenate([[0.0], np.cumsum(between)]))
        x[row] = starts[-1] - starts[-1][-1] / 2
    for sweep in range(4 * _SWEEPS):
        for number in range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1):
            row = rows[number]
            wanted = np.array([x[neighbours[node][0]] @ neighbours[node][1] for node in row])
            strength = np.array([neighbours[node][2] for node in row])
            x[row] = _rising(wanted - starts[number], strength) + starts[number]
    return x - (x.min() + x.max()) / 2 if len(x) else x


def _neighbours(upper: Array, lower: Array, pulls: Array, count: int) -> list[tuple[Array, Array, float]]:
    """Of each place its neighbours in the layers above and below, their shares of its pull, and the whole pull."""
    found = []
    for node in range(count):
        others = np.concatenate([upper[lower == node], lower[upper == node]])
        pull = np.concatenate([pulls[lower == node], pulls[upper == node]])
        found.append((others, pull / pull.sum() if len(pull) else pull, float(pull.sum())))
    return found


def _rising(values: Array, weights: Array) -> Array:
    """The nearest values, by weighted least squares, that do not fall: pool adjacent violators."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, u, m), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, m + n)]
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])


def _put_apart(places: Array, nodes: Array, size: Array, gap: float, y: float, layer_height: float) -> None:
    """Nodes without an edge lie below the others, in lines that are about as wide as those."""
    x = places[:, 0]
    width = max(float(np.ptp(x)) + float(size.max()), 6.0)
    line: list[int] = []
    for node in [*nodes.tolist(), -1]:
        used = float(size[line].sum()) + gap * len(line)
        if line and (node < 0 or used + size[node] > width):
            lefts = np.concatenate([[0.0], np.cumsum(size[line] + gap)[:-1]])
            places[line, 0] = lefts + size[line] / 2 - (used - gap) / 2
            places[line, 1] = y
            y, line = y - layer_height / 2, []
        line.append(node)
