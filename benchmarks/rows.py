"""The form of every benchmark: rows with a value, a peer, a floor, and whether the floor is kept."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch


@dataclass(frozen=True)
class Row:
    """One line of a benchmark.

    Args:
        row: what is measured.
        value: the median over `repeats`.
        unit: of the value.
        peer: what it stands beside.
        peer_value: the peer's value in the same unit.
        floor: what must be reached at least.
        better: whether lower or higher is better.
        repeats: repetitions or seeds.
    """

    row: str
    value: float
    unit: str
    floor: float | None = None
    better: Literal["lower", "higher"] = "lower"
    peer: str = ""
    peer_value: float | None = None
    repeats: int = 1

    @property
    def ok(self) -> bool:
        """Whether the floor is kept; a row without a floor is information."""
        if self.floor is None:
            return True
        return self.value <= self.floor if self.better == "lower" else self.value >= self.floor


def line(row: Row) -> str:
    """A row as it is printed."""
    sign = "" if row.floor is None else ("<=" if row.better == "lower" else ">=") + f" {row.floor:g}"
    verdict = "" if row.floor is None else ("ok" if row.ok else "MISS")
    beside = "" if row.peer_value is None else f"{row.peer_value:.4g} ({row.peer})"
    unit = f" {row.unit}" if row.unit else ""
    value = f"{row.value:.4g}{unit}"
    return f"{row.row:<66}{value:>12}  {sign:>10}  {verdict:4}{beside:>12}  n={row.repeats}"


def quiet() -> None:
    """One thread, and libraries silent."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)


def report(name: str, rows: Iterator[Row]) -> int:
    """Prints rows as they come, writes them with `--json FILE`, and returns 1 if a floor was missed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    path = parser.parse_args().json
    print(f"{'row':<66}{'value':>12}  {'floor':>10}  {'':4}{'beside':>12}", flush=True)
    done = []
    for row in rows:
        print(line(row), flush=True)
        done.append({**asdict(row), "ok": row.ok})
    if path:
        Path(path).write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in done) else 1


def run(name: str, rows: Iterator[Row]) -> int:
    """Runs a benchmark as a command: one thread, libraries silent, Ctrl-C is exit code 130."""
    quiet()
    with contextlib.suppress(KeyboardInterrupt):
        return report(name, rows)
    return 130
