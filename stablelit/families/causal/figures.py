"""Pictures of a learned graph as matrices. Each function returns a matplotlib Figure and opens no window.

Rows are causes and columns effects, as everywhere: the square at row i, column j is the edge i -> j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.causal.edges import edge_verdicts
from stablelit.families.causal.metrics.edge_counts import edge_counts
from stablelit.families.causal.metrics.graph_metric import checked_pair
from stablelit.functional.edge_thresholds import checked_graphs, edges_at, square_matrices, structural_hamming_distance
from stablelit.functional.score_groups import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# told apart in the common kinds of colour blindness, and by their lightness in grey
VERDICT_COLOURS = {"correct": "#1b6ca8", "reversed": "#f0a30a", "false": "#a5123a", "missing": "#9a9a9a"}
_EDGE, _NO_EDGE, _DIAGONAL, _GRID = "0.25", "white", "0.90", "0.85"
_LONGEST_NAME = 18
_MOST_NUMBERS = 15


def adjacency_heat_map(
    weights: Tensor | Array,
    names: Sequence[str],
    truth: Tensor | Array | None = None,
    threshold: float | None = None,
    title: str = "",
) -> Figure:
    """Weights in red and blue about 0, the true edges framed; what is below the threshold is pale.

    Up to 15 nodes the weights that are kept are written into their squares.

    Args:
        weights: (d, d); the diagonal is not looked at.
        names: of the d nodes.
        truth: (d, d) bool or 0 and 1.
        threshold: edges are kept where ``|weight| >= threshold``; None keeps those that are not 0.
        title: stands before the threshold.

    Raises:
        DataError: shapes that do not fit, NaN, a threshold below 0.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    values, labels = checked_weights(weights, names, "adjacency_heat_map")
    true = None if truth is None else checked_truth(truth, values, "adjacency_heat_map")
    if threshold is not None and not threshold >= 0:
        raise DataError(f"adjacency_heat_map: threshold={threshold}; allowed: 0 or more, it is of the weights' size.")
    nodes, off = len(values), ~np.eye(len(values), dtype=bool)
    kept = off & (values != 0) if threshold is None else edges_at(np.abs(values), threshold)
    finite = np.abs(values[off & np.isfinite(values)])
    limit = float(finite.max(initial=0.0)) or 1.0
    figure = Figure(figsize=_size(nodes, labels, 1), layout="constrained")
    axes = figure.subplots()
    shown = np.where(off, np.clip(np.nan_to_num(values), -limit, limit), 0.0)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=np.where(kept, 1.0, 0.3))
    axes.imshow(_painted({}, nodes), alpha=np.eye(nodes))
    _frame(axes, labels)
    if nodes <= _MOST_NUMBERS:
        form = ".2f" if 0.1 <= limit < 100 else ".1e"
        for i, j in np.argwhere(kept):
            colour = "white" if abs(shown[i, j]) > 0.6 * limit else "black"
            axes.text(j, i, f"{values[i, j]:{form}}", ha="center", va="center", fontsize=6.5, color=colour)
    handles = []
    if true is not None:
        for i, j in np.argwhere(true):
            frame = Rectangle((j - 0.44, i - 0.44), 0.88, 0.88, fill=False, lw=1.6, edgecolor="black")
            handles = [axes.add_patch(frame)]
        if handles:
            figure.legend(handles, [f"true edge ({true.sum()})"], loc="outside lower center", frameon=False)
    figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, label="weight")
    where = "" if threshold is None else f"threshold {threshold:.3g}: "
    head = f"{where}{int(kept.sum())} of {nodes * (nodes - 1)} edges"
    axes.set_title(f"{title}\n{head}" if title else head, fontsize=10)
    return figure


def graph_comparison(predicted: Tensor | Array, truth: Tensor | Array, names: Sequence[str], title: str = "") -> Figure:
    """Three matrices: the true graph, the estimated one, and what is correct, reversed, false and missing.

    Args:
        predicted: (d, d) bool or 0 and 1.
        truth: the same.
        names: of the d nodes.
        title: of the figure.

    Raises:
        DataError: shapes that do not fit, several graphs, weights in the place of edges, self-loops.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    graphs = checked_pair(predicted, truth, "graph_comparison")
    if len(graphs[0]) != 1:
        raise DataError(f"graph_comparison: there are {len(graphs[0])} graphs; allowed: one.")
    (a,), (t,) = graphs
    labels = _labels(names, len(a), "graph_comparison")
    verdicts = edge_verdicts(a, t)
    counts = edge_counts(a, t)
    figure = Figure(figsize=_size(len(a), labels, 3), layout="constrained")
    panels = figure.subplots(1, 3)
    heads = (
        f"truth: {int(t.sum())} edges",
        f"estimate: {int(a.sum())} edges",
        f"SHD {structural_hamming_distance(a, t)} (empty graph: {int(t.sum())}),  F1 {counts.f_beta():.2f}",
    )
    colours: tuple[dict[str, Array], ...] = (
        {"0.25": t},
        {"0.25": a},
        {VERDICT_COLOURS[k]: m for k, m in verdicts.items()},
    )
    for axes, head, marks in zip(panels, heads, colours, strict=True):
        axes.imshow(_painted(marks, len(a)))
        _frame(axes, labels)
        axes.set_title(head, fontsize=10)
    for axes in panels[1:]:
        axes.set_yticks([])
        axes.set_ylabel("")
    handles = [Patch(facecolor=VERDICT_COLOURS[name]) for name in verdicts]
    texts = [f"{name} ({int(marks.sum())})" for name, marks in verdicts.items()]
    figure.legend(handles, texts, loc="outside lower right", ncols=4, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def short_name(name: str) -> str:
    """A name of at most 18 characters: its beginning and its end, since sensors often differ in the last number."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 2]}…{name[len(name) - _LONGEST_NAME // 2 + 1 :]}"


def checked_weights(weights: Tensor | Array, names: Sequence[str], owner: str) -> tuple[Array, list[str]]:
    """One matrix of weights, and the names as they are shown.

    Raises:
        DataError: several matrices, not square, NaN, another number of names.
    """
    values = square_matrices(weights, f"{owner}: weights")
    if len(values) != 1:
        raise DataError(f"{owner}: there are {len(values)} matrices; allowed: one, (d, d).")
    return values[0], _labels(names, values.shape[1], owner)


def _labels(names: Sequence[str], nodes: int, owner: str) -> list[str]:
    if len(names) != nodes:
        raise DataError(f"{owner}: {len(names)} names for {nodes} nodes; allowed: one for each.")
    return [short_name(str(name)) for name in names]


def checked_truth(truth: Tensor | Array, values: Array, owner: str) -> Array:
    """(d, d) bool of the size of the weights.

    Raises:
        DataError: another size, weights in the place of edges, self-loops.
    """
    true = checked_graphs(truth, f"{owner}: true edges")
    if true.shape != (1, *values.shape):
        raise DataError(f"{owner}: true edges of shape {true.shape} for {len(values)} nodes; allowed: (d, d).")
    return true[0]


def _painted(marks: dict[str, Array], nodes: int) -> Array:
    """(d, d, 3) colours."""
    from matplotlib.colors import to_rgb

    picture = np.empty((nodes, nodes, 3))
    picture[:] = to_rgb(_NO_EDGE)
    picture[np.eye(nodes, dtype=bool)] = to_rgb(_DIAGONAL)
    for colour, there in marks.items():
        picture[there] = to_rgb(colour)
    return picture


def _size(nodes: int, labels: Sequence[str], panels: int) -> tuple[float, float]:
    """Inches: squares large enough for a name or a number, a picture small enough for a screen."""
    side = max(2.0, min(0.33 * nodes, 8.0), min(0.16 * nodes, 16.0))
    margin = 0.08 * max(map(len, labels))
    return panels * side + margin + (1.1 if panels == 1 else 0.5), side + margin + 0.9


def _frame(axes: Any, labels: Sequence[str]) -> None:
    nodes = len(labels)
    size = 8 if nodes <= 25 else 6 if nodes <= 100 else 4
    axes.set_xticks(np.arange(nodes), labels, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(nodes), labels, fontsize=size)
    axes.xaxis.tick_top()
    # as lines: minor ticks would make a picture of many nodes take twice as long
    between, whole = np.arange(nodes + 1) - 0.5, (-0.5, nodes - 0.5)
    axes.vlines(between, *whole, color=_GRID, lw=0.5)
    axes.hlines(between, *whole, color=_GRID, lw=0.5)
    axes.set(xlim=whole, ylim=whole[::-1])
    axes.tick_params(length=0)
    axes.set_ylabel("cause", fontsize=9)
    axes.set_xlabel("effect", fontsize=9)
    axes.spines[:].set(color=_GRID, lw=0.8)
