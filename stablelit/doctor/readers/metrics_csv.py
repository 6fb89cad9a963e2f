"""metrics.csv of Lightning's CSVLogger, and any table with a column of steps or epochs.

Rows of training and of validation are mixed, and a cell is empty where its row does not say anything of its column.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from stablelit.doctor.readers.run_log import RunLog, Unreadable

CSV_FILE = "metrics.csv"
LONGEST_LINE = 16 << 20
"""Characters. A line that is longer is cut there: no run has logged it."""
STEP_NAMES = ("step", "global_step", "trainer/global_step", "_step", "iteration", "iter", "steps")
EPOCH_NAMES = ("epoch", "epochs")


def read_metrics_csv(path: Path, log: RunLog) -> None:
    """Adds the columns of one table; steps are those of its column of steps, else epochs, else rows.

    Raises:
        Unreadable: no table with numbers in it.
        OSError: no permission.
    """
    with path.open("rb") as raw:
        if b"\0" in raw.read(4096):
            raise Unreadable(f"{path}: binary data, not a table. Was it written to by something else?")
    log.begin_file(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = iter(partial(file.readline, LONGEST_LINE), "")
        rows = csv.reader(line.replace("\0", "") for line in lines)
        try:
            header = [name.strip() for name in next(rows, [])]
            found = _read_rows(header, rows, log)
        except csv.Error as error:
            raise Unreadable(f"{path}:{rows.line_num}: not a table: {error}") from error
    if not found:
        held = f"its first line is {', '.join(header)[:80]!r}" if header else "it is empty"
        raise Unreadable(f"{path}: no row with a number; {held}.")


def _read_rows(header: list[str], rows: Iterable[list[str]], log: RunLog) -> int:
    lower = [name.lower() for name in header]
    step_at = next((lower.index(name) for name in STEP_NAMES if name in lower), None)
    epoch_at = next((lower.index(name) for name in EPOCH_NAMES if name in lower), None)
    axis_at = step_at if step_at is not None else epoch_at
    if step_at is None:
        log.axis = "epoch"
        log.remarks.append("no column of steps: " + ("epochs" if epoch_at is not None else "rows") + " are the axis.")
    columns = [(place, name) for place, name in enumerate(header) if place != axis_at and name]
    found = no_step = no_number = 0
    for number, row in enumerate(rows):
        if row[: len(header)] == header:  # a restart that wrote its header again
            continue
        step = float(number) if axis_at is None else _number(row[axis_at]) if axis_at < len(row) else None
        if step is None or not math.isfinite(step):
            no_step += 1
            continue
        for place, name in columns:
            if place < len(row) and row[place]:
                value = _number(row[place])
                if value is None:
                    no_number += 1
                else:
                    log.add(name, step, value)
                    found += 1
    if no_step and found:
        log.remarks.append(f"{no_step} rows without a step were left out.")
    if no_number and found:
        log.remarks.append(f"{no_number} cells that hold no number were left out.")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
