"""The picture of a threshold's choice: precision, recall and F over the threshold, and how many are predicted."""

from __future__ import annotations

from typing import Any

import numpy as np

from stablelit.callbacks._threshold_choice import Outcome, ThresholdChoice

_MOST_POINTS = 2000


def draw_curve(outcome: Outcome, choice: ThresholdChoice) -> Any:
    """A matplotlib figure: the chosen threshold as a line, what tuned chance reaches as a band."""
    from matplotlib.figure import Figure

    curve = outcome.curve
    assert curve is not None
    places = np.unique(np.linspace(0, len(curve.predicted) - 1, _MOST_POINTS).round().astype(int))
    x, predicted, right = curve.thresholds[places], curve.predicted[places], curve.true_positives[places]
    positives, name = curve.groups.positives, choice.score_name
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        if positives:
            above.plot(x, right / predicted, label="precision", color="C0", linewidth=1)
            above.plot(x, right / positives, label="recall", color="C2", linewidth=1)
            above.plot(x, curve.values("fbeta", choice.beta)[places], label=name.upper(), color="C3", linewidth=2)
    if positives and f"{name}_null" in outcome.values:
        null, q95 = outcome.values[f"{name}_null"], outcome.values[f"{name}_null_q95"]
        above.axhspan(0.0, q95, color="0.8", label=f"95 % of noise, chosen alike (mean {null:.3f})")
    for axis in (above, below):
        axis.axvline(outcome.thresholds[0], color="black", linestyle="--", linewidth=1)
        axis.grid(alpha=0.3)
    above.set_ylim(0.0, 1.02)
    above.set_title(f"{choice.select}: threshold {outcome.thresholds[0]:.4g}")
    if positives:
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    below.step(x, predicted, where="post", color="C1")
    if positives:
        below.axhline(positives, color="0.4", linestyle=":", linewidth=1, label="true")
        below.legend(loc="upper right", fontsize="small", frameon=False)
    below.set_ylabel("predicted" if outcome.graphs is None else "edges")
    below.set_xlabel("threshold")
    return figure
