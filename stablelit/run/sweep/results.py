"""`summary.csv`: a line for each job of a sweep, written anew after each of them.

job, directory, status, reason, one column for each swept key, objective, seconds, epochs, steps; then the metrics of
the test under their names, those of the best epoch as `best:...`, those at the end as `final:...`.

What a job came to is read from its directory: any process can write the table, and one that was killed is in it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError
from stablelit.run.compose import read_command
from stablelit.run.directory import OVERRIDES_FILE
from stablelit.run.sweep.record import SweepRecord
from stablelit.run_files import CONFIG_FILE, SUMMARY_FILE

TABLE_FILE = "summary.csv"
NOT_STARTED = "not started"
RUNNING = "running"
_REASON_WIDTH = 200


@dataclass
class JobResult:
    """What one job came to.

    Args:
        number: of the job; the name of its directory.
        directory: where it lies.
        status: of summary.json, or `running`, `interrupted` or `not started`.
        reason: why it did not finish, one line.
        swept: the values of the swept keys, as texts.
        objective: the best value; None where there is none.
        seconds: of fitting and testing.
        columns: everything else that is worth a column.
    """

    number: int
    directory: Path
    status: str = NOT_STARTED
    reason: str = ""
    swept: dict[str, str] = field(default_factory=dict)
    objective: float | None = None
    seconds: float | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def ended_badly(self) -> bool:
        """Whether it has an end, and not the one that was wanted."""
        return self.status in ("failed", "diverged")


def read_results(directory: Path, record: SweepRecord, over: bool = True) -> list[JobResult]:
    """What all jobs of a sweep came to, in their order.

    Args:
        directory: the sweep's.
        record: what was asked for.
        over: no job is running any more: one without a summary was killed.
    """
    numbers = {int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdigit()}
    if record.jobs is not None:
        numbers |= set(range(len(record.jobs)))
    return [_read_job(directory / str(number), number, record, over) for number in sorted(numbers)]


def write_table(directory: Path, record: SweepRecord, over: bool = False) -> list[JobResult]:
    """Reads all jobs, writes `summary.csv` and returns what it read."""
    with _one_at_a_time(directory):
        results = read_results(directory, record, over)
        more = list(dict.fromkeys(name for result in results for name in result.columns))
        objective = "objective" if record.metric is None else f"objective ({record.metric}, {record.mode})"
        head = ["job", "directory", "status", "reason", *record.swept, objective, "seconds", *more]
        with replacing(directory / TABLE_FILE) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for result in results:
                swept = [result.swept.get(key, "") for key in record.swept]
                measured = [result.objective, result.seconds, *(result.columns.get(name) for name in more)]
                told = ["" if value is None else value for value in measured]
                writer.writerow([result.number, result.directory.name, result.status, result.reason, *swept, *told])
    return results


def summary_of(run_dir: Path) -> dict[str, Any] | None:
    """A job's `summary.json`; None where there is none that can be read."""
    try:
        summary = json.loads((run_dir / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def number_in(value: Any) -> float | None:
    """A number as summary.json has it: `"inf"` is one too."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _read_job(directory: Path, number: int, record: SweepRecord, over: bool) -> JobResult:
    overrides: Sequence[str] = record.jobs[number] if record.jobs is not None and number < len(record.jobs) else ()
    if not overrides and (directory / OVERRIDES_FILE).is_file():
        try:
            overrides = read_command(directory).overrides
        except ConfigurationError:
            overrides = ()
    values = dict(o.partition("=")[::2] for o in overrides)
    swept = {key: values[key] for key in record.swept if key in values}
    result = JobResult(number, directory, swept=swept)
    summary = summary_of(directory)
    if summary is None:
        if (directory / CONFIG_FILE).is_file():
            result.status, result.reason = ("interrupted", "it was killed") if over else (RUNNING, "")
        return result
    result.status = str(summary.get("status"))
    result.reason = " ".join(str(summary.get("error") or "").split())[:_REASON_WIDTH]
    result.seconds = number_in(summary.get("seconds"))
    result.objective = number_in((summary.get("objective") or {}).get("best"))
    result.columns = {name: summary.get(name) for name in ("epochs", "steps")}
    best = summary.get("best") or {}
    result.columns["best epoch"] = best.get("epoch")
    result.columns.update(_metrics(summary.get("test") or {}, ""))
    result.columns.update(_metrics({k: v for k, v in best.items() if k != "epoch"}, "best:"))
    result.columns.update(_metrics(summary.get("final") or {}, "final:"))
    return result


def _metrics(values: dict[str, Any], prefix: str) -> dict[str, float]:
    numbers = {name: number_in(value) for name, value in values.items() if not name.endswith(("_step", "_epoch"))}
    return {prefix + name: value for name, value in numbers.items() if value is not None and not math.isnan(value)}


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Of two processes that write the table the second reads what the first has ended with."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    import os

    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
