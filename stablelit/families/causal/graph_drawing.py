"""A learned graph as a drawing: causes above effects, an edge as thick as its weight is large."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from stablelit.families.causal.edges import edge_verdicts
from stablelit.families.causal.figures import VERDICT_COLOURS, checked_truth, checked_weights
from stablelit.families.causal.graph_layout import Layout, layered_layout
from stablelit.functional.schedules import check_count
from stablelit.functional.score_groups import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
_POINTS = 8.5
_HEIGHT, _LAYER, _PAD = 0.27, 0.8, 0.18
_THIN, _THICK, _MISSING_WIDTH = 0.7, 3.2, 1.0
_GAP = 0.22
# sideways over half a node's height by less than the gap beside it
_STEEPEST = 0.7 * _GAP / (_HEIGHT / 2)


def graph_drawing(
    weights: Tensor | Array,
    names: Sequence[str],
    truth: Tensor | Array | None = None,
    title: str = "",
    most_edges: int = 90,
) -> Figure:
    """The graph of the edges that are not 0, in layers from causes to effects.

    With the truth, edges are coloured by what became of them, and missing ones are dashed; without, by the sign of
    the weight. No edge runs across a node. A cycle shows as an arrow that points upwards.

    Args:
        weights: (d, d), 0 where there is no edge; the diagonal is not looked at.
        names: of the d nodes.
        truth: (d, d) bool or 0 and 1.
        title: of the figure.
        most_edges: of more edges than this the strongest are drawn, and the title says so.

    Raises:
        DataError: shapes that do not fit, NaN, truth with weights or self-loops.
        ConfigurationError: fewer than one edge.
    """
    from matplotlib.figure import Figure

    values, labels = checked_weights(weights, names, "graph_drawing")
    there = (values != 0) & ~np.eye(len(values), dtype=bool)
    notes = [title] if title else []
    check_count("graph_drawing", "most_edges", most_edges, 1)
    if there.sum() > most_edges:
        notes.append(f"the {most_edges} strongest of {int(there.sum())} edges")
        strengths = np.where(there, np.abs(values), 0.0).reshape(-1)
        there = np.zeros_like(there)
        there.flat[np.argsort(-strengths, kind="stable")[:most_edges]] = True
    if truth is None:
        kinds = {"positive": there & (values > 0), "negative": there & (values < 0)}
        colours, missing = {"positive": POSITIVE, "negative": NEGATIVE}, there & False
    else:
        kinds = {**edge_verdicts(there, checked_truth(truth, values, "graph_drawing"))}
        colours, missing = VERDICT_COLOURS, kinds["missing"]
    widths = [_text_width(label) + _PAD for label in labels]
    layout = layered_layout(there | missing, widths, gap=_GAP, layer_height=_LAYER, first=there)
    left, right = ((layout.nodes[:, 0] + sign * np.array(widths) / 2) for sign in (-1, 1))
    bends = np.concatenate([way for way in layout.ways.values()] or [layout.nodes])
    x = min(left.min(), bends[:, 0].min()) - 0.15, max(right.max(), bends[:, 0].max()) + 0.15
    y = layout.nodes[:, 1].min() - 0.3, layout.nodes[:, 1].max() + 0.3
    # a unit of the picture is an inch, so that texts fit their boxes
    figure = Figure(figsize=(max(x[1] - x[0], 4.2), y[1] - y[0] + 0.35 + 0.25 * len(notes)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.axis("off")
    ways = _from_rim_to_rim(layout, widths)
    sizes = np.abs(values[there])
    strongest = float(sizes[np.isfinite(sizes)].max(initial=0.0)) or 1.0
    for name, marks in kinds.items():
        for i, j in np.argwhere(marks).tolist():
            style = {"color": colours[name], "lw": _THIN + (_THICK - _THIN) * min(abs(values[i, j]) / strongest, 1.0)}
            if missing[i, j]:
                style.update(lw=_MISSING_WIDTH, linestyle=(0, (4, 2)))
            _draw_edge(axes, ways[i, j], style)
    for label, centre, width in zip(labels, layout.nodes, widths, strict=True):
        _draw_node(axes, label, centre, width)
    _legend(figure, {name: int(marks.sum()) for name, marks in kinds.items()}, colours)
    if notes:
        axes.set_title("\n".join(notes), fontsize=10)
    return figure


def _text_width(text: str) -> float:
    """Inches."""
    from matplotlib.textpath import TextPath

    vertices = TextPath((0, 0), text, size=_POINTS).vertices if text.strip() else np.zeros((1, 2))
    return float(np.ptp(vertices[:, 0])) / 72


def _from_rim_to_rim(layout: Layout, widths: Sequence[float]) -> dict[tuple[int, int], Array]:
    """The ways of all edges, their ends moved from the centres of the nodes to their rims.

    Edges at one side of a node are spread over it in the order of where they come from.
    """
    ways = {edge: way.copy() for edge, way in layout.ways.items()}
    for node, width in enumerate(widths):
        for side in (-1.0, 1.0):
            ends = [
                (way[next_to, 0], edge, end)
                for edge, way in layout.ways.items()
                for own, end, next_to in ((edge[0], 0, 1), (edge[1], -1, -2))
                if own == node and np.sign(way[next_to, 1] - way[end, 1]) == side
            ]
            spread = min(0.7 * width, 0.16 * len(ends))
            for rank, (_, edge, end) in enumerate(sorted(ends)):
                ways[edge][end] += spread * ((rank + 0.5) / len(ends) - 0.5), side * _HEIGHT / 2
    return ways


def _draw_edge(axes: Any, way: Array, style: dict[str, Any]) -> None:
    from matplotlib.patches import FancyArrowPatch

    arrow = f"-|>,head_length={4 + style['lw']},head_width={1.6 + 0.6 * style['lw']}"
    axes.add_patch(FancyArrowPatch(path=_smooth(way), arrowstyle=arrow, mutation_scale=1, zorder=1, **style))


def _smooth(way: Array) -> Any:
    """Past the nodes of a layer on a straight line, and by a curve from layer to layer."""
    from matplotlib.path import Path

    points, codes, slopes = [way[0]], [Path.MOVETO], _slopes(way)
    for k, (a, b) in enumerate(pairwise(way)):
        half = np.sign(b[1] - a[1]) * _HEIGHT / 2
        before, after = np.array([slopes[k], 1.0]), np.array([slopes[k + 1], 1.0])
        leave = a if k == 0 else a + half * before
        reach = b if k == len(way) - 2 else b - half * after
        bend = 0.4 * (reach[1] - leave[1])
        points += [leave, leave + bend * before, reach - bend * after, reach]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path(points, codes)


def _slopes(way: Array) -> Array:
    """dx/dy at each point: upright at the ends, between them along the way, never so slanted as to meet a node."""
    slopes = np.zeros(len(way))
    for k in range(1, len(way) - 1):
        before, after = way[k] - way[k - 1], way[k + 1] - way[k]
        if before[0] * after[0] > 0:
            # the smaller of the two slopes: the curve does not swing beyond its points
            slopes[k] = min(before[0] / before[1], after[0] / after[1], key=abs)
    return slopes.clip(-_STEEPEST, _STEEPEST)


def _draw_node(axes: Any, label: str, centre: Array, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = centre - np.array([width, _HEIGHT]) / 2
    axes.add_patch(
        FancyBboxPatch(
            corner,
            width,
            _HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor="0.96",
            edgecolor="0.35",
            lw=0.8,
            zorder=2,
        )
    )
    axes.text(*centre, label, ha="center", va="center_baseline", fontsize=_POINTS, zorder=3)


def _legend(figure: Any, counts: dict[str, int], colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colours[name], lw=2, linestyle="--" if name == "missing" else "-") for name in counts
    ]
    texts = [f"{name} ({count})" for name, count in counts.items()]
    figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), frameon=False, fontsize=8)
