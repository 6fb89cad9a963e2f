"""Draws a panel with matplotlib: named lines, few ticks, the schedule below what it drives."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from stablelit.doctor.evidence.curve import Curve, Floats
from stablelit.report.markup import Markup
from stablelit.report.panel import Line, Panel
from stablelit.report.themed_svg import SERIES, colour, drawing_style, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches, of which a page makes what fits
_WIDTH, _HEIGHT, _LOWER = 5.2, 3.2, 0.95
_LEFT, _BOTTOM, _TOP, _BETWEEN = 0.56, 0.44, 0.17, 0.14
_POINT = 1 / 72
# beyond it numbers cannot be subtracted and multiplied on the way to a screen
_LARGEST = 1e150
_LETTER = 5.4 * _POINT
# beyond so many points a line is drawn as the medians of stretches, with a band from the least to the greatest
_MOST_POINTS = 260
_DASHES = ("solid", "solid", "solid", (0, (5, 1.5)), (0, (5, 1.5)), (0, (5, 1.5)))


def draw_panel(panel: Panel, salt: str) -> Markup:
    """The panel as SVG for a page; `salt` is unique in the page."""
    from matplotlib.figure import Figure

    with drawing_style(salt):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        labels = [_short(line.label) for line in (*panel.lines, *panel.lower)]
        right = _WIDTH - min(max(map(len, labels), default=0) * _LETTER + 0.16, 0.36 * _WIDTH)
        bottom = _BOTTOM + (_LOWER if panel.lower else 0)
        upper = _add_axes(figure, bottom, _HEIGHT - _TOP, right)
        every = _places([*panel.lines, *panel.lower])
        _draw_lines(upper, panel.lines)
        _fit(upper, panel.limits(), every, panel.is_logarithmic, panel.from_zero, ticks=4)
        _mark(upper, panel)
        _name_lines(upper, panel.lines)
        lowest = upper
        if panel.lower:
            lowest = _add_axes(figure, _BOTTOM, bottom - _BETWEEN, right)
            _draw_lines(lowest, panel.lower)
            _fit(lowest, Panel("", panel.lower).limits(), every, logarithmic=False, from_zero=False, ticks=2)
            _name_lines(lowest, panel.lower)
        _number_places(lowest, every, panel.axis)
        return inline_svg(figure, panel.in_words())


def thinned(curve: Curve, most: int = _MOST_POINTS) -> tuple[Floats, Floats, Floats, Floats]:
    """Places, medians, least and greatest of stretches, so that there are at most `most`; the ends stay the ends."""
    steps, values = curve.steps, curve.values
    if len(steps) <= most:
        return steps, values, values, values
    edges = np.linspace(0, len(steps), most + 1).round().astype(int)
    pairs = list(pairwise(edges))
    middle = np.array([np.median(values[a:b]) for a, b in pairs])
    low = np.minimum.reduceat(values, edges[:-1])
    high = np.maximum.reduceat(values, edges[:-1])
    places = np.array([steps[a:b].mean() for a, b in pairs])
    places[0], places[-1] = steps[0], steps[-1]
    return places, middle, low, high


def _add_axes(figure: Figure, bottom: float, top: float, right: float) -> Axes:
    """Bare axes; the numbers are written by hand, which takes a third of the time of matplotlib's own ticks."""
    left = _LEFT / _WIDTH
    axes = figure.add_axes((left, bottom / _HEIGHT, right / _WIDTH - left, (top - bottom) / _HEIGHT))
    axes.set_axis_off()
    return axes


def _places(lines: list[Line]) -> Floats:
    return np.concatenate(
        [line.curve.steps for line in lines if not line.level or len(line.curve) > 1] or [np.zeros(1)]
    )


def _paint(line: Line) -> dict[str, Any]:
    if line.solid:
        return {"color": colour("muted"), "linewidth": 0.7, "alpha": 0.5}
    if line.level:
        return {"color": colour("muted"), "linestyle": (0, (2, 2)), "linewidth": 1.1}
    slot = line.slot % len(SERIES)
    width = 0.8 if line.faint else 1.7
    return {"color": colour(SERIES[slot]), "linestyle": _DASHES[slot], "linewidth": width}


def _draw_lines(axes: Axes, lines: list[Line]) -> None:
    # levels lie below, and the first line, which is what the picture is about, above all others
    for place, line in sorted(enumerate(lines), key=lambda pair: (not pair[1].level, -pair[0])):
        known = line.curve.finite()
        if not len(known):
            continue
        known = Curve(known.steps, _drawable(known.values))
        if line.level and not line.solid and len(known) == 1:
            axes.axhline(float(known.values[0]), zorder=1.5, **_paint(line))
            continue
        x, middle, low, high = thinned(known)
        paint = _paint(line)
        if len(known) > len(x):
            axes.fill_between(x, low, high, color=paint["color"], alpha=0.2, linewidth=0)
        order = 2.5 - 0.01 * place
        axes.plot(x, middle, zorder=order, **paint)
        if len(x) <= 2 and not line.level:
            axes.plot(x, middle, "o", markersize=3.5, color=paint["color"], zorder=order)
        gone = line.curve.steps[~np.isfinite(line.curve.values)]
        if len(gone):
            axes.plot(gone[0], 0.97, "x", color=colour("bad"), transform=axes.get_xaxis_transform(), clip_on=False)


def _fit(
    axes: Axes, limits: tuple[float, float], every: Floats, logarithmic: bool, from_zero: bool, ticks: int
) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    begin, end = float(every.min()), float(every.max())
    axes.set_xlim(begin, end if end > begin else begin + 1)
    low, high = (float(np.clip(limit, -_LARGEST, _LARGEST)) for limit in limits)
    if logarithmic:
        axes.set_yscale("log")
        room = (high / low) ** 0.06
        axes.set_ylim(low / room, high * room)
        places = LogLocator(numticks=ticks + 2).tick_values(low / room, high * room)
        if sum(low / room <= place <= high * room for place in places) < 2:
            places = LogLocator(subs=(1.0, 2.0, 5.0), numticks=ticks + 4).tick_values(low / room, high * room)
    else:
        low = min(0.0, low) if from_zero else low
        span = high - low
        flat = not span > 1e-9 * max(abs(high), abs(low), 1e-300)
        span = (abs(high) or 1.0) if flat else span
        axes.set_ylim(low if from_zero else low - 0.06 * span, high + 0.08 * span)
        places = [low] if flat and not from_zero else MaxNLocator(nbins=ticks).tick_values(*axes.get_ylim())
    bottom, top = axes.get_ylim()
    shown = [float(place) for place in places if bottom <= place <= top]
    axes.hlines(
        shown, 0, 1, transform=axes.get_yaxis_transform(), color=colour("rule"), linewidth=0.6, zorder=0.5
    )  # fmt: skip
    for place in shown:
        axes.text(
            -0.012, place, tick_text(place), transform=axes.get_yaxis_transform(), ha="right", va="center",
            color=colour("muted"), fontsize=9,
        )  # fmt: skip


def _number_places(axes: Axes, every: Floats, title: str) -> None:
    """The axis below the picture."""
    from matplotlib.ticker import MaxNLocator

    begin, end = axes.get_xlim()
    height = axes.get_position().height * _HEIGHT
    whole = bool(np.all(every == every.round()))
    places = MaxNLocator(nbins=6, integer=whole).tick_values(begin, end)
    below = axes.get_xaxis_transform()
    axes.hlines(0, 0, 1, transform=axes.transAxes, color=colour("rule"), linewidth=0.8, clip_on=False)
    for place in places:
        if begin <= place <= end:
            axes.text(
                place, -0.07 / height, tick_text(float(place)), transform=below, ha="center", va="top",
                color=colour("muted"), fontsize=9,
            )  # fmt: skip
    axes.text(
        0.5, -0.25 / height, title, transform=axes.transAxes, ha="center", va="top", color=colour("muted"), fontsize=9
    )


def _drawable(values: Floats) -> Floats:
    return np.clip(values, -_LARGEST, _LARGEST)


def tick_text(value: float) -> str:
    """A number at an axis: short, and without an exponent as long as it is as short that way.

    >>> [tick_text(v) for v in (0.0, 0.25, 1000.0, 25000.0, 3e-5, 2e9)]
    ['0', '0.25', '1000', '25k', '3e-5', '2e9']
    """
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        lead, _, power = f"{value:.3e}".partition("e")
        return f"{float(lead):g}e{int(power)}"
    if size >= 1e4:
        return f"{value / 1e6:.4g}M" if size >= 1e6 else f"{value / 1e3:.4g}k"
    return f"{value:.4g}"


def _mark(axes: Axes, panel: Panel) -> None:
    low, high = axes.get_xlim()
    for mark in panel.marks:
        if low <= mark.at <= high:
            paint = colour({"critical": "bad", "warning": "warn"}.get(mark.severity, "muted"))
            axes.axvline(mark.at, color=paint, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.2)
            axes.text(
                mark.at, 1.0, str(mark.number), color=paint, ha="center", va="bottom", fontsize=8,
                fontweight="bold", transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _name_lines(axes: Axes, lines: list[Line]) -> None:
    """Writes each line's name beside its end; names that would lie on one another are moved apart."""
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    height = float(axes.get_position().height) * _HEIGHT
    named: list[tuple[float, Line]] = []
    for line in lines:
        known = line.curve.finite()
        if line.label and len(known):
            value = min(max(float(known.values[-1]), low), high)
            span = np.log(high / low) if logarithmic else high - low
            way = np.log(value / low) if logarithmic else value - low
            named.append((float(way / span) * height, line))
    named.sort(key=lambda pair: pair[0])
    places = spread([place for place, _ in named], 10.5 * _POINT, height)
    for place, (_, line) in zip(places, named, strict=True):
        axes.annotate(
            _short(line.label), (1, place / height), xycoords="axes fraction", xytext=(5, 0), va="center",
            textcoords="offset points", color=_paint(line)["color"], fontsize=9, annotation_clip=False,
        )  # fmt: skip


def spread(places: list[float], apart: float, height: float) -> list[float]:
    """Moves ascending places as little as keeps them `apart` and, as far as they fit, within 0 and `height`.

    >>> spread([1.0, 1.0, 1.0], 1.0, 10.0)
    [0.0, 1.0, 2.0]
    """
    if not places:
        return []
    # blocks of names that touch: each as wide as its names, about the mean of where these want to be
    blocks: list[list[float]] = []  # [sum of wanted places of the block's first name, count]
    for place in places:
        blocks.append([place, 1.0])
        while len(blocks) > 1:
            (before, n), (after, m) = blocks[-2], blocks[-1]
            if before / n + n * apart <= after / m:
                break
            blocks[-2:] = [[before + after - m * n * apart, n + m]]
    out: list[float] = []
    for total, n in blocks:
        first = total / n
        out.extend(first + place * apart for place in range(int(n)))
    last = len(out) - 1
    # those behind and before a name need their room too
    return [min(max(place, n * apart), height - (last - n) * apart) for n, place in enumerate(out)]


def _short(label: str) -> str:
    return label if len(label) <= 22 else f"{label[:10]}…{label[-11:]}"
