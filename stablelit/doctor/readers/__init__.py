"""What a run left on disk, read as curves: event files of TensorBoard, metrics.csv, history.jsonl, hparams.yaml."""

from __future__ import annotations

from stablelit.doctor.readers.open_run import read_run
from stablelit.doctor.readers.run_directories import find_runs
from stablelit.doctor.readers.run_log import RunLog, Unreadable

__all__ = ["RunLog", "Unreadable", "find_runs", "read_run"]
