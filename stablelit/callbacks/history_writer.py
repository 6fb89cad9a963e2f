"""Writes one line of plain data an epoch: what plots, reports and rules read.

Runs    on_train_epoch_end (collects); on_save_checkpoint, on_train_epoch_start, on_train_end, on_exception (writes)
Reads   trainer.callback_metrics, the optimizers' learning rates
Writes  history.jsonl in `directory`, else in the logger's directory
Logs    nothing
Resumes exactly: the file is cut back to the checkpoint, an epoch that is run again replaces its line
Limits  rank zero only; nothing under fast_dev_run; an epoch that was broken off has no line; a line that cannot be
        written is lost and told, and the training goes on
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from stablelit.data.files import replacing
from stablelit.errors import DataError
from stablelit.findings import findings_directory
from stablelit.lost_reports import report_may_be_lost, tell_of_lost
from stablelit.run_files import HISTORY_FILE, append_line, from_json, plain

_OWNER = "HistoryWriter"


class HistoryWriter(pl.Callback):
    """Appends every logged value, the learning rates and the seconds of an epoch to `history.jsonl`.

    A line is complete when it appears, so that ``tail -f`` works. A value that is not finite is written as the string
    ``"nan"``, ``"inf"`` or ``"-inf"``: JSON has no other way, and a null would hide which it was.

    A line is written after the module's own `on_train_epoch_end`, which comes later than every callback's and may
    still log; a checkpoint of that epoch always finds it written.

    Args:
        directory: where to write; None is the logger's directory, else the Trainer's `default_root_dir`.

    Example:
        >>> from stablelit import HistoryWriter
        >>> callback = HistoryWriter("runs/mine")
    """

    keeps_books = True

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self._path: Path | None = None
        self._pending: dict[str, Any] | None = None
        self._cut_at_step: int | None = None
        self._last_epoch = -1
        self._began = 0.0

    def __repr__(self) -> str:
        return f"HistoryWriter(directory={self.directory!r})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"HistoryWriter[{self.directory or ''}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the file."""
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            directory = Path(self.directory) if self.directory else findings_directory(trainer)
            self._path = directory / HISTORY_FILE
            with report_may_be_lost(trainer, _OWNER, self._path):
                directory.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cuts the file back to the checkpoint that the run goes on from; a new run begins a new file."""
        if self._path is not None:
            step = self._cut_at_step if self._cut_at_step is not None else trainer.global_step
            kept = [line for line in self._lines() if line["step"] <= step]
            with report_may_be_lost(trainer, _OWNER, self._path):
                self._rewrite(kept)
            self._last_epoch = kept[-1]["epoch"] if kept else -1
        self._cut_at_step = None
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the epoch before, if no checkpoint has."""
        self._write(trainer)
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Marks the epoch as over."""
        self._pending = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        # a schedule that waits for a metric is stepped behind this, and the line may be written before it or after
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._pending |= {"lr" if i == 0 else f"lr/{i}": plain(float(rate)) for i, rate in enumerate(rates)}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes the epoch that the checkpoint closes."""
        self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the last epoch."""
        self._write(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what could not be written."""
        tell_of_lost(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes the last epoch that was finished."""
        self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """A marker: an empty state would not be handed back."""
        return {"version": 1}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers how far the checkpoint's history goes."""
        self._cut_at_step = int(checkpoint["global_step"])

    def _write(self, trainer: pl.Trainer) -> None:
        if self._pending is None:
            return
        line, self._pending = self._pending, None
        # every rank asks: the first to ask for a synchronised metric waits for the others
        metrics = trainer.callback_metrics
        if self._path is None:
            return
        line.update({name: plain(float(value)) for name, value in sorted(metrics.items())})
        with report_may_be_lost(trainer, _OWNER, self._path):
            if line["epoch"] <= self._last_epoch:
                self._rewrite([old for old in self._lines() if old["epoch"] < line["epoch"]])
            self._last_epoch = line["epoch"]
            append_line(self._path, json.dumps(line))

    def _lines(self) -> list[dict[str, Any]]:
        if self._path is None or not self._path.is_file():
            return []
        lines = []
        for text in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(from_json(text))
            except ValueError:
                break  # a kill can leave half a line at the end, and nothing after it
        return lines

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        assert self._path is not None
        if not lines and not self._path.exists():
            return
        with replacing(self._path) as fresh:
            fresh.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a `history.jsonl` (or of the one in a run directory), non-finite values as floats again.

    Raises:
        DataError: no such file, or a line that is not JSON; the message has the line's number.
    """
    file = Path(path)
    file = file / HISTORY_FILE if file.is_dir() else file
    if not file.is_file():
        raise DataError(f"{file}: there is no history here. Add HistoryWriter to the Trainer's callbacks.")
    lines = []
    for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            line = from_json(text)
            if not isinstance(line, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise DataError(f"{file}:{number}: not a line of JSON: {error}") from error
        lines.append({k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in line.items()})
    return lines
