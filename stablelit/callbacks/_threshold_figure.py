"""The picture of a threshold's choice: precision, recall and F over the threshold, and how many are predicted.

Of a graph also its structural Hamming distance, and from where on it has no cycle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stablelit.callbacks._threshold_choice import Outcome, ThresholdChoice
from stablelit.functional.edge_thresholds import EdgeCurve, is_acyclic
from stablelit.functional.score_groups import Array

_MOST_POINTS = 2000


def draw_curve(outcome: Outcome, choice: ThresholdChoice) -> Any:
    """A matplotlib figure: the chosen threshold as a line, what tuned chance reaches as a band."""
    from matplotlib.figure import Figure

    curve = outcome.curve
    assert curve is not None
    places = np.unique(np.linspace(0, len(curve.predicted) - 1, _MOST_POINTS).round().astype(int))
    x, predicted, right = curve.thresholds[places], curve.predicted[places], curve.true_positives[places]
    positives, name = curve.groups.positives, choice.score_name
    figure = Figure(figsize=(7.0, 5.2 if positives else 2.8), layout="constrained")
    heights = [3.0, 1.0 if outcome.edges is None else 1.5]
    # without labels there is nothing but how many are predicted
    panels = figure.subplots(2, 1, sharex=True, height_ratios=heights) if positives else [figure.subplots()]
    above, below = panels[0], panels[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if positives:
            above.plot(x, right / predicted, label="precision", color="C0", linewidth=1)
            above.plot(x, right / positives, label="recall", color="C2", linewidth=1)
            above.plot(x, curve.values("fbeta", choice.beta)[places], label=name.upper(), color="C3", linewidth=2)
    if positives and f"{name}_null" in outcome.values:
        null, q95 = outcome.values[f"{name}_null"], outcome.values[f"{name}_null_q95"]
        above.axhspan(0.0, q95, color="0.8", label=f"95 % of noise, chosen alike (mean {null:.3f})")
    for axis in panels:
        if outcome.edges is not None:
            _shade_acyclic(axis, outcome.edges, float(x[0]))
        axis.axvline(outcome.thresholds[0], color="black", linestyle="--", linewidth=1)
        axis.grid(alpha=0.3)
    above.set_title(f"{choice.select}: threshold {outcome.thresholds[0]:.4g}")
    if positives:
        above.set_ylim(0.0, 1.02)
    if above.get_legend_handles_labels()[0]:
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    lines = below.step(x, predicted, where="post", color="C1", label="predicted")
    if positives:
        lines.append(below.axhline(positives, color="0.4", linestyle=":", linewidth=1, label="true"))
        if outcome.edges is not None:
            lines += _draw_distances(below, outcome.edges, x, places)
        below.legend(handles=lines, loc="upper right", fontsize="small", frameon=False, ncols=3)
    below.set_ylabel("predicted" if outcome.graphs is None else "edges")
    below.set_xlabel("threshold")
    return figure


def _shade_acyclic(axis: Any, edges: EdgeCurve, highest: float) -> None:
    sparsest_cyclic = edges.most_edges_without_cycle()
    if is_acyclic(edges.predicted_graphs(sparsest_cyclic)).all():
        axis.axvspan(sparsest_cyclic.threshold, highest, color="C2", alpha=0.1, label="no cycle", zorder=0)


def _draw_distances(axis: Any, edges: EdgeCurve, x: Array, places: Array) -> Any:
    distances = edges.structural_hamming_distances()[places]
    # what has many times the true edges is nothing to look at, and would flatten the rest
    axis.set_ylim(0, 1.2 * max(3 * edges.groups.positives, int(distances.min())))
    label = "SHD (of the empty graph: as many as true)"
    return axis.step(x, distances, where="post", color="C4", label=label)
