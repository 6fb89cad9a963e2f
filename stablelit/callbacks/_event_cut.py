"""TensorBoard's events and the rows of metrics.csv: on the disk when a checkpoint is, cut back to it by a resume."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from stablelit.lost_reports import report_may_be_lost


def flush_events(trainer: Any) -> None:
    """Writes out what has been logged so far: a killed process takes with it what waits in its queue."""
    for logger in trainer.loggers:
        with _may_be_lost(trainer, logger):
            writer = _writer(trainer, logger)
            if writer is not None:
                writer.flush()


def cut_events(trainer: Any, step: int) -> None:
    """Tells TensorBoard that the run begins anew at this step: what an earlier file has from there on is not shown.

    It is what `SummaryWriter(purge_step=...)` writes (tensorflow/core/util/event.proto, `SessionLog.START`).
    """
    for logger in trainer.loggers:
        with _may_be_lost(trainer, logger):
            writer = _writer(trainer, logger)
            if writer is None:
                continue
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

            writer._get_file_writer().add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))


def written_rows(trainer: Any) -> list[int | None]:
    """How many rows each logger has written that can be cut back to them (`rows_written`, `cut_back`)."""
    rows: list[int | None] = [None] * len(trainer.loggers)
    for index, logger in enumerate(trainer.loggers):
        with _may_be_lost(trainer, logger):
            if _has_rows(trainer, logger):
                rows[index] = int(logger.rows_written())
    return rows


def cut_rows(trainer: Any, rows: list[int | None]) -> None:
    """Cuts them back; to none where nothing is known of a logger: it is a new run's, or another one's."""
    for index, logger in enumerate(trainer.loggers):
        with _may_be_lost(trainer, logger):
            if _has_rows(trainer, logger):
                logger.cut_back((rows[index] if index < len(rows) else None) or 0)


def _has_rows(trainer: Any, logger: Any) -> bool:
    return trainer.is_global_zero and not trainer.fast_dev_run and hasattr(type(logger), "cut_back")


def log_late(trainer: Any, step: int, values: dict[str, float]) -> None:
    """Gives loggers what the run was killed before it logged; where it had, TensorBoard has the same point twice."""
    for logger in trainer.loggers:
        with _may_be_lost(trainer, logger):
            if _has_rows(trainer, logger) or _writer(trainer, logger) is not None:
                logger.log_metrics(values, step=step)


def _may_be_lost(trainer: Any, logger: Any) -> AbstractContextManager[None]:
    return report_may_be_lost(trainer, type(logger).__name__, str(getattr(logger, "log_dir", None)))


def _writer(trainer: Any, logger: Any) -> Any:
    """The SummaryWriter of a TensorBoardLogger of either of Lightning's names; None of another logger."""
    if not trainer.is_global_zero or trainer.fast_dev_run or type(logger).__name__ != "TensorBoardLogger":
        return None
    experiment = logger.experiment
    return experiment if hasattr(experiment, "_get_file_writer") else None
