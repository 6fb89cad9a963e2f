"""metrics.csv of a run that goes on: Lightning's CSVLogger deletes what the run had written before."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from stablelit.data.files import replacing


class RunCSVLogger(CSVLogger):
    """Appends to the file that is there.

    With EpochMeanCheckpoint the file has as many rows as the run had written when the checkpoint was, and goes on from
    there; a new run begins a new file.

    Example:
        >>> from stablelit.run.metrics_csv import RunCSVLogger
        >>> logger = RunCSVLogger("runs/mine", name="", version="")
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Appending(log_dir=self.log_dir)
        return self._experiment

    def rows_written(self) -> int:
        """Writes out what waits, and counts."""
        self.save()
        return len(_rows(Path(self.experiment.metrics_file_path)))

    def cut_back(self, rows: int) -> None:
        """Leaves the first so many rows."""
        path = Path(self.experiment.metrics_file_path)
        if not path.is_file():
            return
        kept = _rows(path)[:rows]
        if not kept:
            path.unlink()
            self.experiment.metrics_keys = []
            return
        _rewrite(path, kept, list(kept[0]))
        self.experiment.metrics_keys = list(kept[0])


class _Appending(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """In Lightning's: deletes the file."""
        rows = _rows(Path(self.metrics_file_path))
        self.metrics_keys = list(rows[0]) if rows else []

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """In Lightning's: a kill in the middle of it loses the rows."""
        path = Path(self.metrics_file_path)
        _rewrite(path, _rows(path), fieldnames)


def _rewrite(path: Path, rows: list[dict[str, str]], fieldnames: list[str]) -> None:
    with replacing(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=fieldnames)
        writer.writeheader()
        writer.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        # a kill can leave a part of a row at the end
        return [row for row in csv.DictReader(file) if None not in row.values() and None not in row]
