"""The picture of a run's gradients: their norm before the clip, the clip's threshold, and how often it acted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stablelit.callbacks._gradient_history import GradientHistory
from stablelit.functional.score_groups import Array

_NORM, _CLIP, _NON_FINITE, _SKIPPED, _ZERO = "#1b6ca8", "0.25", "#a5123a", "#d98200", "#6b4fa0"
_FEW = 60


def draw_gradients(histories: Mapping[int, GradientHistory], window: int = 50) -> Any:
    """A matplotlib figure: for each optimizer the norm and, where something clips by norm, the clip ratio below it.

    Where a bucket of the history has several norms, a line at their geometric mean lies in a band from the smallest to
    the largest. What a logarithmic axis cannot show is marked at its edges: steps that were not finite or that the
    gradient scaler skipped, above; norms of exactly 0, below.

    Args:
        histories: by the place of their optimizer, one or more, none of them empty.
        window: over how many steps the clip ratio is a mean, at least; of a long run over a hundredth of it.
    """
    from matplotlib.figure import Figure

    columns = {index: _arrays(history) for index, history in histories.items()}
    clips = {index: bool(column["clip_steps"].any()) for index, column in columns.items()}
    heights = [height for index in columns for height in ([2.6, 1.3] if clips[index] else [2.6])]
    figure = Figure(figsize=(7.0, 0.5 + sum(heights)), layout="constrained")
    rows = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    panels = iter(rows)
    for index, column in columns.items():
        above = next(panels)
        _draw_norms(above, column, histories[index].stride)
        _label_norms(above, column, f"optimizer {index}" if len(columns) > 1 else "")
        if clips[index]:
            _draw_clip_ratio(next(panels), column, histories[index].stride, window)
    for axes in rows:
        axes.grid(alpha=0.25)
        axes.margins(x=0.01)
    rows[-1].set_xlabel("optimizer step")
    rows[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _arrays(history: GradientHistory) -> dict[str, Array]:
    return {name: np.asarray(values, dtype=np.float64) for name, values in history.columns().items()}


def _draw_norms(axes: Any, column: Mapping[str, Array], stride: int) -> None:
    there = column["norms"] > 0
    step, low, high = column["step"][there], column["low"][there], column["high"][there]
    mean = np.exp(column["logs"][there] / column["norms"][there])
    if (low < high).any():
        axes.fill_between(step, low, high, color=_NORM, alpha=0.25, lw=0, label="smallest to largest")
        axes.plot(step, mean, color=_NORM, lw=1.0, label="geometric mean" + f" of {stride} steps" * (stride > 1))
    elif len(step):
        axes.plot(step, mean, color=_NORM, lw=1.0, marker="." if len(step) <= _FEW else None, label="norm")
    bound = np.where(column["bound"] > 0, column["bound"], np.nan)
    values = np.unique(bound[~np.isnan(bound)])
    if len(values):
        label = f"clip at {values[0]:.4g}" if len(values) == 1 else "clip"
        axes.plot(column["step"], bound, color=_CLIP, ls="--", lw=1.2, label=label)
    for name, at, marker, colour, label in (
        ("non_finite", 0.96, "x", _NON_FINITE, "not finite"),
        ("skipped", 0.96, "x", _SKIPPED, "skipped by the scaler"),
        ("zero", 0.04, "v", _ZERO, "exactly zero"),
    ):
        marked = column["step"][column[name] > 0]
        if len(marked):
            axes.plot(
                marked,
                np.full(len(marked), at),
                marker,
                color=colour,
                markersize=5,
                transform=axes.get_xaxis_transform(),
                label=f"{label} ({column[name].sum():.0f})",
            )


def _label_norms(axes: Any, column: Mapping[str, Array], whose: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    axes.margins(y=0.12)
    clips, seen = bool(column["clip_steps"].any() or column["bound"].any()), bool(column["norms"].any())
    if clips or seen:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        # decades alone would leave such an axis almost without numbers
        if high / low < 100.0:
            axes.yaxis.set_major_locator(MaxNLocator(5) if high / low < 10.0 else LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.set_yticks([])
    first, second = (f"{whose}\nnorm", " ") if whose else ("gradient norm", "\n")
    axes.set_ylabel(f"{first}{second}before the clip" if clips else first)
    # above the axes, where it hides nothing
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)


def _draw_clip_ratio(axes: Any, column: Mapping[str, Array], stride: int, window: int) -> None:
    step = column["step"]
    buckets = math.ceil(max(window, (step[-1] - step[0]) / 100) / stride)
    looked, clipped = (_last(column[name], buckets) for name in ("clip_steps", "clipped"))
    # where no step of the window was finite there is no ratio
    ratio = np.divide(clipped, looked, out=np.full(len(looked), np.nan), where=looked > 0)
    axes.plot(step, ratio, color=_NORM, lw=1.2)
    axes.fill_between(step, ratio, color=_NORM, alpha=0.15, lw=0)
    whole = column["clipped"].sum() / column["clip_steps"].sum()
    axes.axhline(whole, color=_CLIP, ls=":", lw=1.0, label=f"of all finite steps: {100 * whole:.3g} %")
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
    axes.set(ylim=(-0.03, 1.03), ylabel=f"clipped, of\n{buckets * stride} steps")


def _last(values: Array, count: int) -> Array:
    """(S,) the sums of the last `count` values, of the first ones over as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    return np.asarray(sums[ends] - sums[np.maximum(ends - count, 0)])
