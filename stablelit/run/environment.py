"""What a run sets around itself: what its child processes must know, and how much the libraries under it say."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stablelit.findings import FindingWarning
from stablelit.lost_reports import LostReportWarning
from stablelit.run.check import allow_targets_from_overrides
from stablelit.run.directory import RUN_DIR_VARIABLE

ALLOW_TARGETS_VARIABLE = "STABLELIT_ALLOW_TARGETS"
"""The targets that were allowed on the command line, for the processes of a launcher."""

_QUIET = (
    r".*does not have many workers.*",
    r"Checkpoint directory .* exists and is not empty.*",
    r"Experiment logs directory .* exists and is not empty.*",
    r"The number of training batches .* is smaller than the logging interval.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r"You're resuming from a checkpoint that ended before the epoch ended.*",
)


def remember_allowed_targets(overrides: Sequence[str]) -> None:
    """Notes what the command line allows, before a configuration file can say anything."""
    os.environ[ALLOW_TARGETS_VARIABLE] = json.dumps(allow_targets_from_overrides(overrides))


def allowed_targets() -> list[str]:
    """What the command line allowed."""
    return [str(name) for name in json.loads(os.environ.get(ALLOW_TARGETS_VARIABLE, "[]"))]


@contextmanager
def announce_run_directory(run_dir: Path) -> Iterator[None]:
    """Tells processes that Lightning starts where this run lives."""
    before = os.environ.get(RUN_DIR_VARIABLE)
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(RUN_DIR_VARIABLE, None)
        else:
            os.environ[RUN_DIR_VARIABLE] = before


def quiet_libraries() -> None:
    """Silences Lightning's tips and device listings, and warnings that our own files answer already."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _QUIET:
        warnings.filterwarnings("ignore", message=message)
    if warnings.showwarning is not _show:
        _show_others.append(warnings.showwarning)
        warnings.showwarning = _show


_show_others: list[Callable[..., None]] = []


def _show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """A finding is shown as it is: which line of which callback has warned tells a user nothing."""
    if issubclass(category, FindingWarning | LostReportWarning):
        print(message, file=sys.stderr, flush=True)
    else:
        _show_others[-1](message, category, *place, **more)
