"""How the constraint of a learned graph was brought to hold: its path, drawn from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stablelit.errors import DataError
from stablelit.functional.score_groups import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMALLEST = 1e-16
_SERIES = ("#1b6ca8", "#f0a30a", "#a5123a", "0.4")


def path_panel(
    steps: Sequence[int] | Array,
    h: Sequence[float] | Array,
    weights: Mapping[str, Sequence[float] | Array],
    stage: Sequence[int] | Array | None = None,
    title: str = "",
) -> Figure:
    r"""How far the graph is from acyclic, and what presses it there.

    Args:
        steps: (S,) optimizer steps.
        h: (S,) the measure of cycles; what is below 1e-16 is drawn there.
        weights: (S,) by name, such as ``{"mu": ..., "s": ...}`` or ``{"alpha": ..., "rho": ...}``, on a log scale.
        stage: (S,) numbers of the stages; where it changes, a line is drawn through all panels.
        title: of the figure.

    Raises:
        DataError: nothing to draw, or lengths that differ.
    """
    from matplotlib.figure import Figure

    measure = _series("h", h)
    step = _series("steps", steps, len(measure))
    series = {name: _series(name, values, len(measure)) for name, values in weights.items()}
    figure = Figure(figsize=(7.0, 2.4 + 1.7 * bool(series)), layout="constrained")
    rows = figure.subplots(1 + bool(series), 1, sharex=True, squeeze=False)[:, 0]
    shown = np.where(measure > _SMALLEST, measure, _SMALLEST)
    rows[0].plot(step, np.where(np.isfinite(measure), shown, np.nan), color=_SERIES[0], lw=1.4)
    rows[0].set_yscale("log")
    rows[0].set_ylabel("h (cycles)")
    below = measure <= _SMALLEST
    if below[-1]:
        first = len(below) - int(np.argmin(below[::-1])) if not below.all() else 0
        rows[0].plot(
            step[first], _SMALLEST, "o", ms=5, color=_SERIES[0], label=f"below 1e-16 from step {step[first]:g}"
        )
    for (name, values), colour in zip(series.items(), _SERIES * len(series), strict=False):
        rows[1].step(step, np.where(values > 0, values, np.nan), where="post", color=colour, lw=1.4, label=name)
    if series:
        rows[1].set_yscale("log")
        rows[1].set_ylabel("weights")
    if stage is not None:
        number = _series("stage", stage, len(measure))
        _mark_stages(rows, step, number)
    _finish(figure, rows, title)
    return figure


def _mark_stages(rows: Sequence[Any], step: Array, number: Array) -> None:
    begins = np.flatnonzero(np.diff(number, prepend=np.nan) != 0)
    for begin in begins[1:]:
        for axes in rows:
            axes.axvline(step[begin], color="0.75", lw=0.8, ls=":")
    ends = np.append(begins[1:], len(step) - 1)
    for begin, end in zip(begins, ends, strict=True):
        middle = (step[begin] + step[end]) / 2
        rows[0].annotate(
            f"{number[begin]:g}",
            (middle, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color="0.4",
        )
    rows[0].annotate(
        "stage",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-4, 2),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.4",
    )


def _series(name: str, values: Any, length: int | None = None) -> Array:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not len(series) or (length is not None and len(series) != length):
        raise DataError(
            f"path_panel: {name} has shape {series.shape}; allowed: "
            f"{'(S,) with at least one number' if length is None else (length,)}."
        )
    return series


def _finish(figure: Any, rows: Sequence[Any], title: str) -> None:
    for axes in rows:
        axes.grid(alpha=0.25)
        axes.margins(x=0.01)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, ncols=3, loc="best")
    rows[-1].set_xlabel("optimizer step")
    rows[-1].xaxis.get_major_locator().set_params(integer=True)
    if title:
        figure.suptitle(title, fontsize=10)
