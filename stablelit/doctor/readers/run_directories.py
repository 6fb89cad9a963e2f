"""Where the runs are under a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from stablelit.doctor.readers.event_files import EVENT_FILES
from stablelit.doctor.readers.metrics_csv import CSV_FILE
from stablelit.doctor.readers.run_log import Unreadable
from stablelit.run_files import HISTORY_FILE

_DEEPEST = 24


def is_log_file(name: str) -> bool:
    """Whether a file of that name holds a run's numbers."""
    return name in (CSV_FILE, HISTORY_FILE) or name.startswith(EVENT_FILES)


def find_runs(root: Path) -> Iterator[Path]:
    """Every directory at or below `root` that holds logs, in natural order; a log file given as `root` is itself one.

    Symbolic links are followed, each directory once.

    Raises:
        Unreadable: there is no such directory, it cannot be entered, or nothing below it holds logs.
    """
    if root.is_file():
        if not (is_log_file(root.name) or root.suffix in (".csv", ".jsonl")):
            raise Unreadable(f"{root}: a file that holds no logs. Give a run's directory, a .csv, a .jsonl or events.")
        yield root
        return
    if not root.exists():
        raise Unreadable(f"{root}: there is no such directory.")
    refused: list[str] = []
    found = False
    for directory in _walk(root, refused):
        found = True
        yield directory
    if not found and refused:
        raise Unreadable(f"{refused[0]}: no permission to look into it.")
    if not found:
        raise Unreadable(
            f"{root}: no logs here or below. Looked for {EVENT_FILES}*, {CSV_FILE} and {HISTORY_FILE}: "
            f"give the Trainer a logger (logger=True writes them to lightning_logs/)."
        )


def _walk(root: Path, refused: list[str]) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    while waiting:
        directory, depth = waiting.pop()
        try:
            state = directory.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(directory) as entries:
                held = sorted(entries, key=lambda entry: _natural(entry.name))
                inside = [Path(entry.path) for entry in held if _is_directory(entry)]
                holds_logs = any(is_log_file(entry.name) for entry in held)
        except OSError:
            refused.append(str(directory))
            continue
        if holds_logs:
            yield directory
        if depth < _DEEPEST:
            waiting.extend((path, depth + 1) for path in reversed(inside))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _natural(name: str) -> list[tuple[int, int | str]]:
    """version_2 before version_10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
