"""history.jsonl (a line an epoch, see `HistoryWriter`), and any file with an object a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stablelit.doctor.readers.metrics_csv import EPOCH_NAMES, LONGEST_LINE, STEP_NAMES
from stablelit.doctor.readers.run_log import RunLog, Unreadable
from stablelit.run_files import float_of, from_json

_DEEPEST = 16
_NOT_FINITE = frozenset(["nan", "inf", "-inf", "infinity"])


def read_json_lines(path: Path, log: RunLog) -> None:
    """Adds every number of every line; objects inside are flattened with ``/``.

    A line that is not JSON is left out and counted: a kill can leave half a line.

    Raises:
        Unreadable: not one line with a number.
        OSError: no permission.
    """
    log.begin_file(path)
    bad = found = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(iter(partial(file.readline, LONGEST_LINE), "")):
            if not text.strip():
                continue
            try:
                line = from_json(text)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                bad += 1
                continue
            found += _add_line(line, number, log)
    if not found:
        raise Unreadable(f"{path}: no line that is an object with numbers in it.")
    if bad:
        log.remarks.append(f"{path.name}: {bad} lines that are not JSON were left out.")


def read_summary(path: Path, log: RunLog) -> None:
    """Takes from ``summary.json`` how the run ended; one that cannot be read is said so."""
    try:
        summary = from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        log.remarks.append(f"{path.name}: cannot be read: {error.strerror or error}.")
        return
    except ValueError:
        log.remarks.append(f"{path.name}: not JSON, left out.")
        return
    if isinstance(summary, dict):
        log.status = str(summary.get("status") or "")


def _add_line(line: Mapping[str, Any], number: int, log: RunLog) -> int:
    flat = dict(_numbers(line))
    axis = next((name for name in (*STEP_NAMES, *EPOCH_NAMES) if name in flat), None)
    if axis is None or axis in EPOCH_NAMES:
        log.axis = "epoch"
    step = float(number) if axis is None else flat.pop(axis)
    if not math.isfinite(step):
        return 0
    for name, value in flat.items():
        log.add(name, step, value)
    return len(flat)


def _numbers(held: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    for key, value in held.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth < _DEEPEST:
                yield from _numbers(value, f"{name}/", depth + 1)
        elif not isinstance(value, bool) and (isinstance(value, int | float) or str(value).lower() in _NOT_FINITE):
            yield name, float_of(value)
