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

BASELINE_ENDINGS = ("_floor", "_baseline")
"""`test/mass_w1_floor` is what `test/mass_w1` is to be held against."""

ERROR_ENDING = "_std"
"""`test/mass_w1_std` is the standard error of `test/mass_w1`."""

INTERVAL_ENDING = "_interval"
"""`test/accuracy_interval` is half of the 95 % interval of `test/accuracy`."""

_NARROWEST, _USUAL_WIDTH = 20, 80

CHANCE_ENDING = "_chance"
"""`test/accuracy_chance` is what guessing gives."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    metric: str
    value: str
    baseline: str = ""


def metric_rows(metrics: Mapping[str, float]) -> list[Row]:
    """A row for each metric, its standard error behind it and its floor or baseline beside it."""
    rows = []
    for name, value in metrics.items():
        if _is_step_value(name, metrics) or _has_own_row(name, metrics) is not None:
            continue
        against = next((metrics[name + end] for end in BASELINE_ENDINGS if name + end in metrics), None)
        rows.append(Row(name, _with_error(name, value, metrics), _compared(against, metrics.get(name + CHANCE_ENDING))))
    return rows


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


def _with_error(name: str, value: float, metrics: Mapping[str, float]) -> str:
    if (interval := metrics.get(name + INTERVAL_ENDING)) is not None:
        return f"{_number(value)} +- {interval:.1g} (95 %)"
    error = metrics.get(name + ERROR_ENDING)
    return _number(value) if error is None else f"{_number(value)} +- {error:.1g}"


def _compared(baseline: float | None, chance: float | None) -> str:
    guessed = "" if chance is None else f"chance {chance:.2g}"
    return guessed if baseline is None else f"{_number(baseline)}{guessed and f' ({guessed})'}"


def _has_own_row(name: str, metrics: Mapping[str, float]) -> str | None:
    endings = (*BASELINE_ENDINGS, ERROR_ENDING, INTERVAL_ENDING, CHANCE_ENDING)
    return next((name[: -len(e)] for e in endings if name.endswith(e) and name[: -len(e)] in metrics), None)


def _is_step_value(name: str, metrics: Mapping[str, float]) -> bool:
    # a metric logged per step and per epoch is there three times
    return name.endswith(("_step", "_epoch")) and name.rpartition("_")[0] in metrics


def _number(value: float) -> str:
    return f"{value:.4g}"


def told(done: Mapping[str, Any]) -> dict[str, str]:
    """What a module says of its work as lines of a table: numbers and texts, without the path."""
    shown = {str(k): v for k, v in done.items() if isinstance(v, str | int | float) and k != "path"}
    return {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in shown.items()}
