"""Pictures of predicted directions: how far off they are, of which events, and whether kappa knows.

Each function returns a matplotlib Figure and opens no window. Angles are shown in degrees; they come in radians. Events
whose prediction is NaN or infinite are left out, and counted in the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from stablelit.families.neutrinos.angles import azimuth_zenith_of
from stablelit.families.neutrinos.metrics import probability_integral

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL, LINE_FIT, GUESS = "tab:blue", "tab:orange", "0.45"
# of a class of pulse counts, below which a median and a band are noise
LEAST_EVENTS = 5


def angular_error_by_pulse_count(
    error: Tensor, pulse_count: Tensor, line_fit_error: Tensor | None = None, title: str = ""
) -> Figure:
    """Median angular error of events of 4-7, 8-15, 16-31, ... pulses with the band of 16-84 %, and how many there are.

    Args:
        error: ``(E,)`` radians.
        pulse_count: ``(E,)`` pulses of each event.
        line_fit_error: ``(E,)`` radians, of the line fit; None leaves it out.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    pulses, left_out = _numbers(pulse_count), _not_finite(error)
    degrees_of = {"model": np.degrees(_numbers(error))}
    if line_fit_error is not None:
        degrees_of["line fit"] = np.degrees(_numbers(line_fit_error))
    classes = np.floor(np.log2(np.maximum(pulses, 1))).astype(int)
    good = np.isfinite(degrees_of["model"])
    known = [k for k in np.unique(classes) if (good & (classes == k)).sum() >= LEAST_EVENTS]
    centres = np.array([np.median(pulses[classes == k]) for k in known])
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for name, degrees in degrees_of.items():
        if not known:
            break
        spread = [np.quantile(degrees[good & (classes == k)], [0.16, 0.5, 0.84]) for k in known]
        low, middle, high = np.array(spread).T
        model = name == "model"
        colour = MODEL if model else LINE_FIT
        axes.plot(centres, middle, "o-" if model else "s--", color=colour, ms=4, label=f"{name}: median")
        if model:
            axes.fill_between(centres, low, high, color=colour, alpha=0.2, lw=0, label=f"{name}: 16-84 %")
        else:
            axes.plot(centres, low, ":", color=colour, lw=1, label=f"{name}: 16 % and 84 %")
            axes.plot(centres, high, ":", color=colour, lw=1)
    axes.axhline(90.0, color=GUESS, lw=1, ls="--", label="random guess: median")
    axes.set(ylabel="angular error (degrees)", ylim=(0, 180), yticks=range(0, 181, 30))
    # above the axes: errors up to 180 degrees leave no free corner
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    edges = 2.0 ** np.arange(classes.min(initial=20), classes.max(initial=0) + 2)
    below.stairs(np.histogram(pulses, edges)[0], edges, fill=True, color=GUESS, alpha=0.6)
    below.set(xlabel="pulses of the event", ylabel="events", xlim=(edges[0], edges[-1]))
    below.set_xscale("log", base=2)
    below.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _say(axes, title, left_out)
    return figure


def cumulative_angular_error(error: Tensor, line_fit_error: Tensor | None = None, title: str = "") -> Figure:
    """The share of events whose error is smaller, for the model, the line fit and a random guess.

    A random guess is within theta of the truth with probability ``(1 - cos theta) / 2``.

    Args:
        error: ``(E,)`` radians.
        line_fit_error: ``(E,)`` radians, of the line fit; None leaves it out.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    best, left_out = 180.0, _not_finite(error)
    for name, values, colour in (("model", error, MODEL), ("line fit", line_fit_error, LINE_FIT)):
        if values is None:
            continue
        degrees = np.sort(np.degrees(_numbers(values)))
        degrees = degrees[np.isfinite(degrees)]
        if not len(degrees):
            continue
        shares = np.arange(1, len(degrees) + 1) / len(degrees)
        best = min(best, float(np.quantile(degrees, 0.002)))
        label = f"{name}: median {np.median(degrees):.3g}°, mean {degrees.mean():.3g}°"
        axes.step(degrees, shares, where="post", color=colour, lw=1.6, label=label)
    low = min(10.0, max(0.01, best))
    angles = np.geomspace(low, 180.0, 400)
    guess = (1 - np.cos(np.radians(angles))) / 2
    axes.plot(angles, guess, color=GUESS, ls="--", lw=1.2, label="random guess: median 90°, mean 90°")
    for share in (0.5, 0.68):
        axes.axhline(share, color="0.85", lw=0.8, zorder=0)
    axes.set(xscale="log", xlim=(low, 180.0), ylim=(0, 1.0), xlabel="angular error (degrees)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("share of events with a smaller error")
    axes.legend(frameon=False, loc="upper left")
    _say(axes, title, left_out)
    return figure


def kappa_calibration(f: Tensor, t: Tensor, title: str = "") -> Figure:
    """The share of truths inside the caps that should hold a share of them; below the diagonal kappa is too large.

    The band is where a calibrated model of as many events lies with probability 95 % (Kolmogorov-Smirnov).

    Args:
        f: ``(E, 3)`` predictions, kappa = |f|.
        t: ``(E, 3)`` unit vectors.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    u = np.sort(probability_integral(f, t)[0].cpu().numpy())
    left_out = int((~np.isfinite(u)).sum())
    u = u[np.isfinite(u)]
    shares = np.arange(1, len(u) + 1) / max(len(u), 1)
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.subplots()
    band = 1.358 / np.sqrt(max(len(u), 1))
    ends = np.array([0.0, 1.0])
    axes.fill_between(ends, ends - band, ends + band, color=GUESS, alpha=0.2, lw=0)
    axes.plot(ends, ends, color=GUESS, ls="--", lw=1, label="calibrated, with its 95 % band")
    axes.step(np.append(u, 1.0), np.append(shares, 1.0), where="post", color=MODEL, lw=1.8, label="model")
    text = []
    for share in (0.5, 0.68, 0.9):
        found = float((u <= share).mean()) if len(u) else float("nan")
        axes.plot([share], [found], "o", color=MODEL, ms=5)
        text.append(f"{100 * share:.0f} % caps hold {100 * found:.0f} %")
    # on the side where the curve is not
    above = bool(len(u)) and float((u <= 0.68).mean()) < 0.68
    x, y, ha, va = (0.03, 0.84, "left", "top") if above else (0.97, 0.04, "right", "bottom")
    axes.text(x, y, "\n".join(text), transform=axes.transAxes, ha=ha, va=va, fontsize="small")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(
        xlabel="share that the predicted cap should hold",
        ylabel="share of truths inside (below the diagonal: overconfident)",
    )
    axes.legend(frameon=False, loc="upper left", fontsize="small")
    _say(axes, title, left_out)
    return figure


def predicted_against_true_zenith(f: Tensor, t: Tensor, title: str = "") -> Figure:
    """Cosines of predicted and true zenith: columns are normalised, and right predictions lie on the diagonal.

    In cosines isotropic directions are even. 1 came from above, -1 through the Earth; one bright row is a model that
    says one zenith whatever it sees.

    Args:
        f: ``(E, 3)`` predictions of any length.
        t: ``(E, 3)`` unit vectors.
        title: of the figure.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    good = f.isfinite().all(dim=-1)
    left_out = int((~good).sum())
    f, t = f[good], t[good]
    n_bins = int(np.clip(np.sqrt(len(t) / 8), 8, 40))
    cosines = [np.cos(_numbers(azimuth_zenith_of(vectors.detach().double())[1])) for vectors in (t, f)]
    counts, edges, _ = np.histogram2d(*cosines, bins=n_bins, range=[[-1, 1], [-1, 1]])
    columns = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, columns, out=np.full_like(counts, np.nan), where=columns > 0)
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(edges, edges, 100 * shares.T, cmap="viridis", norm=PowerNorm(0.5, vmin=0), rasterized=True)
    figure.colorbar(mesh, ax=axes, label=f"events of a column (%); even: {100 / n_bins:.3g} %")
    axes.plot([-1, 1], [-1, 1], color="white", ls="--", lw=1)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    axes.set(xlabel="true cos(zenith)", ylabel="predicted cos(zenith)")
    _degrees_above(axes)
    if len(t):
        bias = float(np.mean(cosines[1]) - np.mean(cosines[0]))
        axes.set_title(f"predicted less true cosine on average: {bias:+.3f}", fontsize="small")
    _say(axes, title, left_out)
    return figure


def _degrees_above(axes: Axes) -> None:
    above = axes.secondary_xaxis("top")
    degrees = [0, 45, 60, 90, 120, 135, 180]
    above.set_xticks(np.cos(np.radians(degrees)), [f"{d}°" for d in degrees], fontsize="small")
    above.set_xlabel("true zenith", fontsize="small")


def _not_finite(error: Tensor) -> int:
    return int((~error.isfinite()).sum())


def _say(axes: Axes, title: str, left_out: int) -> None:
    if left_out:
        title = f"{title}\n" * bool(title) + f"{left_out:,} predictions that are NaN or infinite are left out"
    if title:
        axes.figure.suptitle(title, fontsize="medium")


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
