from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from stablelit.families.causal.graph_layout import _exchange, _rising, layered_layout
from tests.families.causal.metrics.conftest import edges_of, random_dag


def graph(nodes, *edges):
    matrix = np.zeros((nodes, nodes), dtype=bool)
    for i, j in edges:
        matrix[i, j] = True
    return matrix


def layouts(count=12, density=None):
    rng = np.random.default_rng(0)
    for _ in range(count):
        nodes = int(rng.integers(2, 16))
        matrix = random_dag(rng, nodes, rng.uniform(0, 0.4) if density is None else density)
        widths = rng.uniform(0.3, 1.5, nodes)
        yield matrix, widths, layered_layout(matrix, widths, gap=0.2, layer_height=1.0)


@pytest.mark.slow
def test_every_cause_is_above_its_effect_and_every_edge_runs_down_layer_by_layer():
    for matrix, _, layout in layouts():
        assert set(layout.ways) == set(edges_of(matrix))
        for (i, j), way in layout.ways.items():
            assert (way[0] == layout.nodes[i]).all()
            assert (way[-1] == layout.nodes[j]).all()
            assert np.diff(way[:, 1]).tolist() == [-1.0] * (len(way) - 1)


@pytest.mark.slow
def test_nodes_and_passing_edges_of_a_layer_keep_their_gap():
    for _, widths, layout in layouts():
        boxes = [(y, x, width / 2) for (x, y), width in zip(layout.nodes, widths, strict=True)]
        boxes += [(y, x, 0.06) for way in layout.ways.values() for x, y in way[1:-1]]
        for (y, x, half), (other_y, other_x, other_half) in product(boxes, boxes):
            if y == other_y and x < other_x:
                assert other_x - x >= half + other_half + 0.2 - 1e-9


def test_a_tree_is_drawn_without_crossings_whatever_the_order_of_its_nodes():
    rng = np.random.default_rng(1)
    tree = graph(15, *((k, child) for k in range(7) for child in (2 * k + 1, 2 * k + 2)))
    for _ in range(10):
        order = rng.permutation(15)
        assert layered_layout(tree[np.ix_(order, order)], [1.0] * 15).crossings == 0


def crossings_of(upper_order, lower_order, edges):
    places = [(upper_order.index(i), lower_order.index(j)) for i, j in edges]
    return sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(places) for c, d in places[:k])


@pytest.mark.slow
def test_of_two_layers_the_crossings_are_counted_rightly_and_are_the_fewest_there_can_be():
    rng = np.random.default_rng(2)
    for _ in range(25):
        block = rng.random((4, 4)) < 0.5
        # every node has an edge, so that the layers are the two halves
        block[np.arange(4), rng.permutation(4)] = True
        matrix = np.zeros((8, 8), dtype=bool)
        matrix[:4, 4:] = block
        layout = layered_layout(matrix, [1.0] * 8)
        edges = list(edges_of(matrix))
        x = layout.nodes[:, 0]
        drawn = crossings_of(sorted(range(4), key=lambda k: x[k]), sorted(range(4, 8), key=lambda k: x[k]), edges)
        assert layout.crossings == drawn
        best = min(crossings_of(a, b, edges) for a in permutations(range(4)) for b in permutations(range(4, 8)))
        assert drawn == best


def test_neighbours_are_exchanged_until_no_exchange_takes_a_crossing_away():
    # 0, 1, 2 are joined to 5, 4, 3 below: three crossings in their order, none in the reverse one
    around = [(np.array([], dtype=int), np.array([5 - node])) for node in range(3)] + [(np.array([]), np.array([]))] * 3
    place, row = np.array([0.0, 1, 2, 0, 1, 2]), np.arange(3)
    _exchange(row, around, place)
    assert row.tolist() == [2, 1, 0]
    assert place.tolist() == [2, 1, 0, 0, 1, 2]


def test_a_chain_is_straight():
    layout = layered_layout(graph(5, (0, 1), (1, 2), (2, 3), (3, 4)), [0.3, 2.0, 0.5, 1.0, 0.7])
    assert np.ptp(layout.nodes[:, 0]) < 1e-9


def test_a_cause_stands_near_its_effects():
    # 3 has a single effect, far down: it does not stay at the top
    layout = layered_layout(graph(4, (0, 1), (1, 2), (3, 2)), [1.0] * 4)
    assert layout.nodes[3, 1] == layout.nodes[1, 1]


def test_cycles_are_drawn_with_some_edges_upwards():
    layout = layered_layout(graph(3, (0, 1), (1, 2), (2, 0), (1, 0)), [1.0] * 3)
    assert set(layout.ways) == {(0, 1), (1, 2), (2, 0), (1, 0)}
    rises = {edge: way[-1, 1] > way[0, 1] for edge, way in layout.ways.items()}
    # 1, 2, 0 leaves one edge against the order
    assert [edge for edge, rise in rises.items() if rise] == [(0, 1)]
    assert (layout.ways[0, 1] == layout.ways[1, 0][::-1]).all()


def test_the_first_edges_decide_which_way_is_down():
    estimate, missing = graph(3, (2, 1), (1, 0)), graph(3, (0, 2))
    layout = layered_layout(estimate | missing, [1.0] * 3, first=estimate)
    assert layout.ways[0, 2][-1, 1] > layout.ways[0, 2][0, 1]


def test_nodes_without_edges_lie_below_in_lines():
    layout = layered_layout(graph(20, (0, 1)), [1.0] * 20, gap=0.2)
    alone = layout.nodes[2:]
    assert alone[:, 1].max() < layout.nodes[1, 1]
    assert np.ptp(alone[:, 0]) <= 6.0
    assert len({tuple(place) for place in alone.tolist()}) == 18
    assert (layered_layout(graph(3), [1.0] * 3).nodes[:, 1] == layered_layout(graph(3), [1.0] * 3).nodes[0, 1]).all()


def test_the_same_graph_is_drawn_the_same():
    one, other = (next(layouts(1, 0.4))[2] for _ in range(2))
    assert (one.nodes == other.nodes).all()


@pytest.mark.parametrize("seed", range(5))
def test_rising_values_are_the_nearest(seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=5), rng.uniform(0.5, 2, 5)
    found = _rising(values, weights)
    assert (np.diff(found) >= 0).all()
    cost = (weights * (found - values) ** 2).sum()
    for _ in range(500):
        other = np.sort(found + rng.normal(size=5) * rng.choice([0.01, 0.3]))
        assert (weights * (other - values) ** 2).sum() >= cost - 1e-12
