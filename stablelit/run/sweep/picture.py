"""`summary.png`: the objective over what was swept.

One numeric key: points with the median of the seeds as a line, a logarithmic axis where the values span decades. Two
numeric keys: a map. Names: a strip for each. More keys: a panel for each key, and how the best of the sweep came about.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stablelit.data.files import replacing
from stablelit.run.sweep.ranking import SEED_KEY, by_setting, short_names, shown_value
from stablelit.run.sweep.record import SweepRecord
from stablelit.run.sweep.results import JobResult

_POINT, _LINE, _BEST = "#0072b2", "#56b4e9", "#d55e00"
_DECADES = 20.0
_MOST_PANELS = 6
_MOST_TICKS = 8


def write_picture(results: Sequence[JobResult], record: SweepRecord, path: Path) -> bool:
    """Draws what there is; returns whether there was anything to draw."""
    done = [r for r in results if r.objective is not None and math.isfinite(r.objective) and r.status != "diverged"]
    if len(done) < 2:
        return False
    from matplotlib.figure import Figure

    keys = [key for key in record.swept if key != SEED_KEY and len({r.swept.get(key) for r in done}) > 1]
    keys = keys or [key for key in record.swept if key == SEED_KEY]
    two = len(keys) == 2 and all(_all_numeric(done, key) for key in keys) and record.jobs is not None
    panels = 1 if len(keys) == 1 or two else min(len(keys), _MOST_PANELS) + 1
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(1.2 + 4.6 * columns, 0.6 + 3.6 * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    names = short_names(record.swept)
    if two:
        _draw_map(figure, axes[0], done, keys, names, record)
    else:
        for ax, key in zip(axes, keys, strict=False):
            _draw_key(ax, results, done, key, names[key], record)
        if panels > 1:
            _draw_course(axes[-1], results, record)
    unfinished = len(results) - len(done)
    better = "smaller" if record.mode == "min" else "larger"
    note = f", {unfinished} without a result (x)" if unfinished else ""
    figure.suptitle(f"{len(results)} jobs{note}; {better} is better", fontsize=10)
    with replacing(path) as fresh:
        figure.savefig(fresh, dpi=130, format="png")
    return True


def _draw_key(
    ax: Any, results: Sequence[JobResult], done: Sequence[JobResult], key: str, name: str, record: SweepRecord
) -> None:
    lost = [r for r in results if r.ended_badly and key in r.swept]
    numeric = _all_numeric([*done, *lost], key)
    texts = list(dict.fromkeys(r.swept.get(key, "") for r in [*done, *lost]))
    if numeric:
        texts.sort(key=float)
    places = {text: float(text) if numeric else float(i) for i, text in enumerate(texts)}
    values = {text: [float(r.objective or 0.0) for r in done if r.swept.get(key, "") == text] for text in texts}
    for text, own in values.items():
        ax.plot([places[text]] * len(own), own, "o", color=_POINT, alpha=0.75, markersize=5, zorder=3)
    best = _best(done, record)
    at_best = places[best.swept.get(key, "")]
    ax.plot([at_best], [best.objective], "o", color=_BEST, markersize=8, zorder=4)
    ax.annotate(f"job {best.number}", (at_best, best.objective), xytext=(7, 5), textcoords="offset points",
                color=_BEST, fontsize=9)  # fmt: skip
    if lost:
        above = ax.get_xaxis_transform()
        ax.plot(
            [places[r.swept[key]] for r in lost], [1.0] * len(lost), "x", color="0.45", transform=above, clip_on=False
        )
    medians = {places[text]: statistics.median(own) for text, own in values.items() if own}
    if numeric:
        # where a sweeper drew every value by itself, there is nothing to take a median of
        if len(done) > len(medians) or len(medians) <= _MOST_TICKS:
            ax.plot(list(medians), list(medians.values()), color=_LINE, linewidth=1.5, zorder=2)
        if _spans_decades(list(places.values())):
            ax.set_xscale("log")
        if len(texts) <= _MOST_TICKS:
            ax.set_xticks(list(places.values()), [shown_value(text) for text in texts])
            ax.minorticks_off()
    else:
        for place, median in medians.items():
            ax.plot([place - 0.25, place + 0.25], [median, median], color=_LINE, linewidth=2.5, zorder=2)
        ax.set_xticks(list(places.values()), [_cut(t) for t in texts])
        if max(map(len, texts)) > 9 or len(texts) > 5:
            ax.tick_params("x", labelrotation=25)
        ax.set_xlim(-0.6, len(texts) - 0.4)
    _finish(ax, name, record.metric or "objective", [float(r.objective or 0.0) for r in done])


def _draw_map(
    figure: Any, ax: Any, done: Sequence[JobResult], keys: Sequence[str], names: dict[str, str], record: SweepRecord
) -> None:
    columns, rows = (sorted({r.swept[key] for r in done if key in r.swept}, key=float) for key in keys)
    grid = [[math.nan] * len(columns) for _ in rows]
    for setting in by_setting(done, record):
        values = dict(setting.values)
        if setting.median is not None:
            grid[rows.index(values[keys[1]])][columns.index(values[keys[0]])] = setting.median
    # the better the darker
    image = ax.imshow(grid, origin="lower", aspect="auto", cmap="Blues_r" if record.mode == "min" else "Blues")
    low, high = image.get_clim()
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if math.isnan(value):
                ax.text(x, y, "no result", ha="center", va="center", fontsize=8, color="0.4")
                continue
            share = 0.5 if high == low else (value - low) / (high - low)
            dark = share < 0.45 if record.mode == "min" else share > 0.55
            ax.text(x, y, f"{value:.4g}", ha="center", va="center", fontsize=9, color="white" if dark else "black")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(names[keys[0]])
    ax.set_ylabel(names[keys[1]])
    many = max(len(s.jobs) for s in by_setting(done, record)) > 1
    figure.colorbar(image, ax=ax, label=f"{'median ' if many else ''}{record.metric or 'objective'}")


def _draw_course(ax: Any, results: Sequence[JobResult], record: SweepRecord) -> None:
    """The objective of each job, and the best until then."""
    better = min if record.mode == "min" else max
    numbers: list[int] = []
    own: list[float] = []
    best: list[float] = []
    for result in results:
        if result.objective is None or not math.isfinite(result.objective):
            continue
        numbers.append(result.number)
        own.append(result.objective)
        best.append(better([*best[-1:], result.objective]))
    ax.plot(numbers, own, "o", color=_POINT, alpha=0.75, markersize=5)
    ax.step(numbers, best, where="post", color=_BEST, linewidth=1.5)
    ax.annotate("best so far", (numbers[-1], best[-1]), xytext=(-4, 6), textcoords="offset points", ha="right",
                color=_BEST, fontsize=9)  # fmt: skip
    ax.xaxis.get_major_locator().set_params(integer=True)
    _finish(ax, "job", record.metric or "objective", own)


def _finish(ax: Any, x: str, y: str, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > _DECADES:
        ax.set_yscale("log")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _best(done: Sequence[JobResult], record: SweepRecord) -> JobResult:
    sign = -1.0 if record.mode == "max" else 1.0
    return min(done, key=lambda r: sign * float(r.objective or 0.0))


def _all_numeric(done: Sequence[JobResult], key: str) -> bool:
    return all(_is_number(r.swept.get(key, "")) for r in done)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _spans_decades(places: Sequence[float]) -> bool:
    return min(places) > 0 and max(places) / min(places) >= _DECADES


def _cut(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:11]}...{text[-10:]}"
