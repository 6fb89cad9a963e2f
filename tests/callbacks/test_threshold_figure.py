from __future__ import annotations

import numpy as np
import pytest

from stablelit.callbacks._threshold_choice import ThresholdChoice
from stablelit.callbacks._threshold_edges import EdgeEvaluation
from stablelit.callbacks._threshold_figure import draw_curve
from stablelit.functional.edge_thresholds import EdgeCurve, is_acyclic, structural_hamming_distance

# 0 -> 1 -> 2 and 2 -> 0: the last edge that comes closes a cycle
SCORES = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.7], [0.4, 0.3, 0.0]])
TRUTH = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])


def drawn(scores=SCORES, truth=TRUTH, select="min_dag", grid=None):
    choice = ThresholdChoice("a test", select, "micro", 1.0, grid, 0.5, None, 1, 2.0, None, 0.75)
    return draw_curve(EdgeEvaluation(choice, EdgeCurve(scores, truth, grid=grid), None).measure(), choice)


def line(axes, label):
    return next(line for line in axes.get_lines() if line.get_label().startswith(label))


def spans(axes):
    return [patch for patch in axes.patches if patch.get_label() == "no cycle"]


def test_where_the_graph_has_no_cycle_both_panels_are_shaded():
    for axes in drawn().axes:
        (span,) = spans(axes)
        # the threshold between 0.7 and 0.4 leaves two edges, the one below three
        assert span.get_x() == pytest.approx(0.55)
        assert is_acyclic(span.get_x() <= SCORES)
        assert not is_acyclic((SCORES > 0.3) & ~np.eye(3, dtype=bool))


def test_the_distance_is_that_of_the_graph_at_each_threshold():
    distances = line(drawn().axes[1], "SHD")
    for threshold, distance in zip(distances.get_xdata(), distances.get_ydata(), strict=True):
        graph = (threshold <= SCORES) & ~np.eye(3, dtype=bool)
        assert distance == structural_hamming_distance(graph, TRUTH.astype(bool))
    assert set(distances.get_ydata()) > {0, 2}


def test_without_a_truth_there_is_one_panel_of_how_many_edges():
    figure = drawn(truth=None)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "edges"
    assert line(axes, "predicted").get_ydata().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert len(spans(axes)) == 1


@pytest.mark.slow
def test_where_every_cut_has_a_cycle_nothing_is_shaded(tmp_path):
    # of a grid on [0, 1] even the highest threshold lies below all scores
    figure = drawn(scores=SCORES + 2.0, grid=3)
    assert not spans(figure.axes[0])
    figure.savefig(tmp_path / "a.png", dpi=40)
