"""How a graph was learned: gradients before and after the clip, and the path of the constraint. From plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stablelit.errors import DataError
from stablelit.functional.score_groups import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 1500
_SMALLEST = 1e-16
_NORM, _CLIP, _NON_FINITE = "#1b6ca8", "0.25", "#a5123a"
_SERIES = ("#1b6ca8", "#f0a30a", "#a5123a", "0.4")


def gradient_panel(
    norms: Sequence[float] | Array,
    max_norm: float | Sequence[float] | Array | None = None,
    steps: Sequence[int] | Array | None = None,
    window: int = 50,
    title: str = "",
) -> Figure:
    """The norm before the clip, the threshold of the clip, and how many of the last steps were clipped.

    Of more than 1,500 steps neighbours are joined: a line at their median, a band from the smallest to the largest.
    Steps whose norm is no finite number are marked at the top; they count neither as clipped nor as not clipped.

    Args:
        norms: (S,) of the gradient before the clip.
        max_norm: the threshold, one for all or (S,); None draws no clip.
        steps: (S,) optimizer steps; None counts from 1.
        window: over how many steps the clip ratio is a mean.
        title: of the figure.

    Raises:
        DataError: no norms, a norm below 0, a threshold not above 0, lengths that differ, a window below 1.
    """
    from matplotlib.figure import Figure

    norm = _series("gradient_panel", "norms", norms)
    step = _steps("gradient_panel", steps, len(norm))
    if (norm < 0).any():
        raise DataError(f"gradient_panel: norms has {norm[norm < 0][0]:g}; allowed: 0 or more, or not finite.")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise DataError(f"gradient_panel: window={window!r}; allowed: an int of 1 or more.")
    finite = np.isfinite(norm)
    figure = Figure(figsize=(7.0, 3.0 if max_norm is None else 4.4), layout="constrained")
    rows = figure.subplots(1 if max_norm is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    above = rows[0]
    _draw_envelope(above, step[finite], norm[finite])
    if (norm[finite] > 0).any():
        above.set_yscale("log")
    if max_norm is not None:
        same = np.ndim(max_norm) == 0
        bound = _series("gradient_panel", "max_norm", np.full(len(norm), max_norm) if same else max_norm, len(norm))
        if not (bound > 0).all():
            raise DataError(f"gradient_panel: max_norm has {bound[~(bound > 0)][0]:g}; allowed: above 0.")
        above.plot(
            *_thinned(step, bound), color=_CLIP, ls="--", lw=1.2, label=f"clip at {bound[0]:.3g}" if same else "clip"
        )
        _draw_clip_ratio(rows[1], step[finite], norm[finite] > bound[finite], window)
    if not finite.all():
        above.plot(
            step[~finite],
            np.full(int((~finite).sum()), 0.97),
            "x",
            color=_NON_FINITE,
            transform=above.get_xaxis_transform(),
            label=f"not finite ({int((~finite).sum())})",
        )
    above.set_ylabel("gradient norm\nbefore the clip" if max_norm is not None else "gradient norm")
    _finish(figure, rows, title)
    return figure


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

    measure = _series("path_panel", "h", h)
    step = _steps("path_panel", steps, len(measure))
    series = {name: _series("path_panel", name, values, len(measure)) for name, values in weights.items()}
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
        number = _series("path_panel", "stage", stage, len(measure))
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


def _draw_envelope(axes: Any, step: Array, norm: Array) -> None:
    if len(norm) <= _MOST_POINTS:
        axes.plot(step, norm, color=_NORM, lw=0.9, marker="." if len(norm) <= 60 else None, label="norm")
        return
    chunks = np.array_split(np.arange(len(norm)), _MOST_POINTS)
    at = [step[chunk].mean() for chunk in chunks]
    low, middle, high = ([kind(norm[chunk]) for chunk in chunks] for kind in (np.min, np.median, np.max))
    axes.fill_between(at, low, high, color=_NORM, alpha=0.25, lw=0, label="smallest to largest")
    axes.plot(at, middle, color=_NORM, lw=0.9, label="median")


def _draw_clip_ratio(axes: Any, step: Array, clipped: Array, window: int) -> None:
    at, ratio = _thinned(step, _running_mean(clipped.astype(np.float64), window))
    axes.plot(at, ratio, color=_NORM, lw=1.2)
    axes.fill_between(at, ratio, color=_NORM, alpha=0.15, lw=0)
    axes.set(ylim=(-0.03, 1.03), ylabel=f"clipped, of\n{window} steps")


def _thinned(step: Array, values: Array) -> tuple[Array, Array]:
    kept = np.unique(np.linspace(0, len(step) - 1, _MOST_POINTS).round().astype(int)) if len(step) else slice(0)
    return step[kept], values[kept]


def _running_mean(values: Array, window: int) -> Array:
    """(S,) the mean over the last `window` values, of the first ones over as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[begins]) / np.maximum(ends - begins, 1))


def _series(owner: str, name: str, values: Any, length: int | None = None) -> Array:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not len(series) or (length is not None and len(series) != length):
        raise DataError(
            f"{owner}: {name} has shape {series.shape}; allowed: "
            f"{'(S,) with at least one number' if length is None else (length,)}."
        )
    return series


def _steps(owner: str, steps: Any, length: int) -> Array:
    return np.arange(1.0, length + 1) if steps is None else _series(owner, "steps", steps, length)


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
