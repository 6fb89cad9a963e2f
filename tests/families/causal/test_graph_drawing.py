from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.figures import VERDICT_COLOURS
from stablelit.families.causal.graph_drawing import NEGATIVE, POSITIVE, _from_rim_to_rim, _smooth, graph_drawing
from stablelit.families.causal.graph_layout import layered_layout
from tests.families.causal.metrics.conftest import random_dag


def arrows(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def names(nodes):
    return [f"sensor {k}" for k in range(nodes)]


def test_edges_have_the_colour_of_their_verdict_and_missing_ones_are_dashed():
    weights = np.array([[0, 1.0, 0, 0], [0, 0, 0.5, 0.2], [0, 0, 0, 0], [0, 0, 0, 0]])
    truth = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    figure = graph_drawing(weights, names(4), truth)
    colours = [to_hex(patch.get_edgecolor()) for patch in arrows(figure)]
    assert sorted(colours) == sorted(VERDICT_COLOURS.values())
    dashed = [to_hex(p.get_edgecolor()) for p in arrows(figure) if p.get_linestyle() != "-" and p.get_linestyle() != "solid"]  # fmt: skip # noqa: E501
    assert dashed == [VERDICT_COLOURS["missing"]]
    assert legend(figure) == ["correct (1)", "reversed (1)", "false (1)", "missing (1)"]


def test_without_a_truth_the_sign_is_the_colour_and_the_size_the_width():
    weights = np.array([[0, 2.0, -1.0], [0, 0, 0], [0, 0, 0]])
    figure = graph_drawing(weights, names(3))
    widths = {to_hex(patch.get_edgecolor()): patch.get_linewidth() for patch in arrows(figure)}
    assert set(widths) == {POSITIVE, NEGATIVE}
    assert widths[POSITIVE] > widths[NEGATIVE] > 0
    assert legend(figure) == ["positive (1)", "negative (1)"]


@pytest.mark.slow
def test_no_edge_runs_across_a_node():
    rng = np.random.default_rng(0)
    for nodes in (6, 13, 20):
        graph = random_dag(rng, nodes, 0.3)
        widths = rng.uniform(0.4, 1.3, nodes)
        layout = layered_layout(graph, widths, gap=0.22, layer_height=0.8)
        for (i, j), way in _from_rim_to_rim(layout, widths).items():
            (points,) = _smooth(way).to_polygons(closed_only=False)
            # corners of a line that is straight between them are not enough
            fine = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(points)])
            for node in set(range(nodes)) - {i, j}:
                inside = np.abs(fine - layout.nodes[node]) < np.array([widths[node], 0.27]) / 2
                assert not inside.all(axis=1).any(), (i, j, node)


def test_an_arrow_ends_at_the_rim_of_its_effect():
    figure = graph_drawing(np.array([[0, 1.0], [0, 0]]), ["a", "b"])
    (arrow,) = arrows(figure)
    cause, effect = (box for box in figure.axes[0].patches if isinstance(box, FancyBboxPatch))
    ends = arrow.get_path().get_extents()
    assert ends.y1 == pytest.approx(cause.get_y(), abs=0.05)
    assert ends.y0 == pytest.approx(effect.get_y() + effect.get_height(), abs=0.05)


def test_of_too_many_edges_the_strongest_are_drawn_and_it_says_so():
    weights = np.triu(np.arange(1.0, 26.0).reshape(5, 5), 1)
    figure = graph_drawing(weights, names(5), title="run", most_edges=3)
    assert figure.axes[0].get_title() == "run\nthe 3 strongest of 10 edges"
    assert len(arrows(figure)) == 3
    assert len(arrows(graph_drawing(weights * 0 + np.triu(np.ones((5, 5)), 1), names(5), most_edges=3))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [2, 13, 20, 40])
def test_graphs_of_many_sizes_are_drawn(nodes, tmp_path):
    rng = np.random.default_rng(nodes)
    truth = random_dag(rng, nodes, 2 / nodes)
    weights = random_dag(rng, nodes, 2 / nodes) * rng.normal(size=(nodes, nodes))
    graph_drawing(weights, names(nodes), truth).savefig(tmp_path / "a.png", dpi=40)


@pytest.mark.parametrize("weights", [np.zeros((3, 3)), np.ones((3, 3)), np.array([[0, math.inf], [0, 0]])])
def test_empty_cyclic_and_infinite_graphs_are_drawn(weights, tmp_path):
    graph_drawing(weights, names(len(weights))).savefig(tmp_path / "a.png", dpi=40)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="graph_drawing: 2 names for 3 nodes"):
        graph_drawing(np.zeros((3, 3)), names(2))
    with pytest.raises(DataError, match="self-loops"):
        graph_drawing(np.zeros((3, 3)), names(3), np.eye(3))
    with pytest.raises(ConfigurationError, match="most_edges=0"):
        graph_drawing(np.zeros((3, 3)), names(3), most_edges=0)
