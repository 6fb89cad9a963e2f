"""The jobs of a sweep in the order of their objective; where seeds are swept, medians over them."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from stablelit.run.sweep.record import SweepRecord
from stablelit.run.sweep.results import JobResult
from stablelit.run.table import console_of

SEED_KEY = "seed"
_MOST_ROWS = 40


@dataclass(frozen=True)
class Setting:
    """The jobs that differ in nothing but their seed.

    Args:
        values: of the other swept keys.
        jobs: with these values.
    """

    values: tuple[tuple[str, str], ...]
    jobs: tuple[JobResult, ...]

    @property
    def finite(self) -> list[float]:
        """The objectives that are numbers, smallest first."""
        known = (job.objective for job in self.jobs if job.status == "finished")
        return sorted(value for value in known if value is not None and math.isfinite(value))

    @property
    def median(self) -> float | None:
        """Of the jobs that finished."""
        return statistics.median(self.finite) if self.finite else None


def by_setting(results: Iterable[JobResult], record: SweepRecord) -> list[Setting]:
    """Settings, the best first; those without a result last, in their order."""
    groups: dict[tuple[tuple[str, str], ...], list[JobResult]] = {}
    for result in results:
        key = tuple((k, v) for k, v in result.swept.items() if k != SEED_KEY or len(record.swept) == 1)
        groups.setdefault(key, []).append(result)
    settings = [Setting(values, tuple(jobs)) for values, jobs in groups.items()]
    sign = -1.0 if record.mode == "max" else 1.0
    return sorted(settings, key=lambda s: math.inf if s.median is None else sign * s.median)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, and as much more as tells it from the others.

    >>> short_names(["model.lr", "callbacks.kl_cap.kl_target", "optimizer.lr"])
    {'model.lr': 'model.lr', 'callbacks.kl_cap.kl_target': 'kl_target', 'optimizer.lr': 'optimizer.lr'}
    """
    short = {}
    for key in keys:
        parts = key.lstrip("+").split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[-length:])
            if sum(other.lstrip("+") == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        short[key] = name
    return short


def shown_value(text: str) -> str:
    """A swept value, a long number of a sweeper's at four digits.

    >>> shown_value("0.0017826497151386949"), shown_value("1e-05"), shown_value("cosine")
    ('0.001783', '1e-05', 'cosine')
    """
    try:
        return text if len(text) <= 8 else f"{float(text):.4g}"
    except ValueError:
        return text


def print_ranking(results: Sequence[JobResult], record: SweepRecord) -> None:
    """Prints the table."""
    settings = by_setting(results, record)
    seeds = SEED_KEY in record.swept and len(record.swept) > 1
    names = short_names(record.swept)
    keys = [key for key in record.swept if not (seeds and key == SEED_KEY)]
    table = Table()
    table.add_column("jobs" if seeds else "job", justify="right")
    for key in keys:
        table.add_column(names[key], justify="right", overflow="fold")
    objective = f"{record.metric or 'objective'} ({record.mode})"
    table.add_column(f"median {objective}" if seeds else objective, justify="right")
    if seeds:
        table.add_column("from, to", justify="right")
    table.add_column("status")
    table.add_column("seconds", justify="right")
    for setting in settings[:_MOST_ROWS]:
        values = dict(setting.values)
        cells = [_numbers(setting), *(shown_value(values.get(key, "")) for key in keys), _shown(setting.median)]
        if seeds:
            cells.append(f"{_shown(setting.finite[0])}, {_shown(setting.finite[-1])}" if setting.finite else "")
        seconds = sum(job.seconds or 0.0 for job in setting.jobs)
        table.add_row(*cells, _states(setting), f"{seconds:.0f}" if seconds else "")
    console = console_of(sys.stdout)
    console.print(table)
    if len(settings) > _MOST_ROWS:
        print(f"... and {len(settings) - _MOST_ROWS} more")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _numbers(setting: Setting) -> str:
    numbers = [job.number for job in setting.jobs]
    return ", ".join(map(str, numbers)) if len(numbers) < 7 else f"{numbers[0]}, ..., {numbers[-1]}"


def _states(setting: Setting) -> str:
    states = [job.status for job in setting.jobs]
    if len(set(states)) == 1:
        return states[0] if len(states) == 1 else f"{len(states)} {states[0]}"
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
