"""The last thing that a run prints: its results beside their baselines, and where everything is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stablelit.report.references import LEVELS_IN_WORDS, Score, scores_of

_NARROWEST, _USUAL_WIDTH = 20, 80


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    metric: str
    value: str
    baseline: str = ""


def metric_rows(metrics: Mapping[str, float]) -> list[Row]:
    """A row for each score, its error behind it and what it is to be held against beside it."""
    return [Row(score.name, _with_error(score), _compared(score.levels)) for score in scores_of(metrics)]


def kl_target_rows(config: DictConfig, metrics: Mapping[str, float], stage: str = "val") -> list[Row]:
    """For every callback that was asked to hold a KL: what was asked, and what validation (or the test) found."""
    where = {"val": "on validation", "test": "on the test set"}[stage]
    rows = []
    for name, node in (config.get("callbacks") or {}).items():
        target = node.get("kl_target") if node else None
        if target is None:
            continue
        quantity = str(node.get("kl") or "kl").rpartition("/")[2]
        got = metrics.get(f"{stage}/{quantity}")
        measured = f"not logged {where}" if got is None else f"got {_number(got)} nats {where}"
        rows.append(Row(f"{name}: KL", measured, f"asked {float(target):g}"))
    return rows


def print_results(
    rows: Iterable[Row],
    places: Mapping[str, str | Path],
    notes: Iterable[str] = (),
    title: str = "",
    file: object = None,
) -> None:
    """Prints the table, then where things are."""
    console = console_of(file or sys.stdout)
    rows = list(rows)
    if rows:
        if title:
            console.print(title, markup=False, highlight=False, soft_wrap=True)
        table = Table()
        table.add_column("metric", no_wrap=True)
        table.add_column("value", justify="right")
        if any(row.baseline for row in rows):
            table.add_column("compare with", justify="right")
        for row in rows:
            table.add_row(*[row.metric, row.value, row.baseline][: len(table.columns)])
        console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    width = max((len(name) for name in places), default=0)
    for name, place in places.items():
        console.print(f"{name:<{width}}  {place}", markup=False, highlight=False, soft_wrap=True)


def console_of(file: object) -> Console:
    """A console on a file; a terminal that gives itself no width is taken to have the usual one."""
    console = Console(file=file)  # type: ignore[arg-type]
    if console.width < _NARROWEST:
        console.width = _USUAL_WIDTH
    return console


def shown_path(path: Path) -> str:
    """Relative to where one stands, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it lies elsewhere, or where one stood is gone
        return str(path)


def _with_error(score: Score) -> str:
    if score.interval is not None:
        return f"{_number(score.value)} +- {score.interval:.1g} (95 %)"
    return _number(score.value) if score.error is None else f"{_number(score.value)} +- {score.error:.1g}"


def _compared(levels: Mapping[str, float]) -> str:
    """The floor or the baseline first, and the others by their names."""
    first = next((level for level in ("floor", "baseline") if level in levels), None)
    others = [f"{LEVELS_IN_WORDS.get(name, name)} {value:.3g}" for name, value in levels.items() if name != first]
    if first is None:
        return ", ".join(others)
    return _number(levels[first]) + (f" ({', '.join(others)})" if others else "")


def _number(value: float) -> str:
    return f"{value:.4g}"


def told(done: Mapping[str, Any]) -> dict[str, str]:
    """What a module says of its work as lines of a table: numbers and texts, without the path."""
    shown = {str(k): v for k, v in done.items() if isinstance(v, str | int | float) and k != "path"}
    return {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in shown.items()}
