from __future__ import annotations

import ast
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from stablelit.errors import DataError
from stablelit.families.causal import figures
from stablelit.families.causal.figures import VERDICT_COLOURS, adjacency_heat_map, graph_comparison, short_name
from tests.families.causal.metrics.conftest import random_dag

NAMES = ["a", "b", "c", "d"]
WEIGHTS = np.array([[9.0, -0.5, 0, 0], [0, 9, 2.0, 0.1], [0, 0, 9, 0], [0, 0, 0, math.nan]])
TRUTH = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])


def frames(axes):
    return {(int(p.get_x() + 0.5), int(p.get_y() + 0.5)) for p in axes.patches if type(p) is Rectangle}


def texts(axes):
    return {(int(t.get_position()[0]), int(t.get_position()[1])): t.get_text() for t in axes.texts}


def test_the_map_is_symmetric_about_zero_and_the_diagonal_has_no_part():
    axes = adjacency_heat_map(WEIGHTS, NAMES).axes[0]
    weights = axes.images[0]
    assert weights.get_clim() == (-2.0, 2.0)
    assert weights.get_array()[1, 2] == 2
    assert np.diag(weights.get_array()).tolist() == [0, 0, 0, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("cause", "effect")


def test_true_edges_are_framed_at_column_of_the_effect_and_row_of_the_cause():
    figure = adjacency_heat_map(WEIGHTS, NAMES, TRUTH)
    assert frames(figure.axes[0]) == {(1, 0), (1, 2), (0, 3)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true edge (3)"]
    assert not adjacency_heat_map(WEIGHTS, NAMES, TRUTH * 0).legends


def test_what_is_below_the_threshold_is_pale_and_has_no_number():
    axes = adjacency_heat_map(WEIGHTS, NAMES, threshold=0.5, title="run").axes[0]
    assert axes.get_title() == "run\nthreshold 0.5: 2 of 12 edges"
    assert texts(axes) == {(1, 0): "-0.50", (2, 1): "2.00"}
    alpha = axes.images[0].get_alpha()
    assert alpha[0, 1] == alpha[1, 2] == 1
    assert alpha[1, 3] < 0.5
    assert adjacency_heat_map(WEIGHTS, NAMES).axes[0].get_title() == "3 of 12 edges"


def test_the_comparison_has_each_place_in_the_colour_of_its_verdict():
    predicted = (np.nan_to_num(WEIGHTS) != 0) & ~np.eye(4, dtype=bool)
    figure = graph_comparison(predicted, TRUTH, NAMES, "run")
    picture = figure.axes[2].images[0].get_array()
    colours = {name: {(i, j) for i in range(4) for j in range(4) if to_hex(picture[i, j]) == VERDICT_COLOURS[name]} for name in VERDICT_COLOURS}  # fmt: skip # noqa: E501
    assert colours == {"correct": {(0, 1)}, "reversed": {(1, 2)}, "false": {(1, 3)}, "missing": {(3, 0)}}
    assert [axes.get_title() for axes in figure.axes] == [
        "truth: 3 edges",
        "estimate: 3 edges",
        "SHD 3 (empty graph: 3),  F1 0.33",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "correct (1)",
        "reversed (1)",
        "false (1)",
        "missing (1)",
    ]


@pytest.mark.parametrize("nodes", [2, 13, pytest.param(26, marks=pytest.mark.slow)])
def test_pictures_of_many_sizes_are_drawn_and_leave_no_window(nodes, tmp_path):
    rng = np.random.default_rng(nodes)
    truth = random_dag(rng, nodes, 0.2)
    weights = random_dag(rng, nodes, 0.2) * rng.normal(size=(nodes, nodes))
    names = [f"sensor number {k} of {nodes}" for k in range(nodes)]
    adjacency_heat_map(weights, names, truth, 0.1).savefig(tmp_path / "a.png", dpi=40)
    graph_comparison(weights != 0, truth, names).savefig(tmp_path / "b.png", dpi=40)
    assert plt.get_fignums() == []


@pytest.mark.slow
def test_an_empty_graph_and_infinite_weights_are_drawn(tmp_path):
    adjacency_heat_map(np.zeros((2, 2)), ["a", "b"]).savefig(tmp_path / "a.png", dpi=40)
    axes = adjacency_heat_map(np.array([[0, math.inf], [0.5, 0]]), ["a", "b"]).axes[0]
    assert axes.images[0].get_clim() == (-0.5, 0.5)


def test_long_names_keep_their_beginning_and_their_end():
    assert short_name("PT08.S5(O3)") == "PT08.S5(O3)"
    short = short_name("temperature of the inlet, sensor 17")
    assert len(short) == 18
    assert short.startswith("temperatu")
    assert short.endswith("sensor 17"[-8:])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: adjacency_heat_map(WEIGHTS, NAMES[:3]), "adjacency_heat_map: 3 names for 4 nodes"),
        (lambda: adjacency_heat_map(np.zeros((2, 4, 4)), NAMES), "there are 2 matrices"),
        (lambda: adjacency_heat_map(np.full((4, 4), math.nan), NAMES), "12 of 16 are NaN"),
        (lambda: adjacency_heat_map(WEIGHTS, NAMES, TRUTH[:3, :3]), "true edges of shape"),
        (lambda: adjacency_heat_map(WEIGHTS, NAMES, threshold=-1.0), "threshold=-1"),
        (lambda: adjacency_heat_map(WEIGHTS, NAMES, threshold=math.nan), "threshold=nan"),
        (lambda: graph_comparison(TRUTH, TRUTH, NAMES[:2]), "graph_comparison: 2 names for 4 nodes"),
        (lambda: graph_comparison(np.stack([TRUTH] * 2), TRUTH, NAMES), "there are 2 graphs"),
    ],
)
def test_bad_input_is_refused(draw, message):
    with pytest.raises(DataError, match=message):
        draw()


def test_optional_packages_are_imported_inside_functions_only():
    for path in Path(figures.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                optional = {"matplotlib", "networkx", "pyarrow", "scipy", "pandas", "hydra", "omegaconf"}
                assert not {name.split(".")[0] for name in names} & optional, path
