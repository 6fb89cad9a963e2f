"""TensorBoard's events around a resume: on the disk when a checkpoint is, and cut back to it afterwards."""

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


def log_late(trainer: Any, step: int, values: dict[str, float]) -> None:
    """Gives TensorBoard what the run was killed before it logged; where it had, the same point stands twice."""
    for logger in trainer.loggers:
        with _may_be_lost(trainer, logger):
            if _writer(trainer, logger) is not None:
                logger.log_metrics(values, step=step)


def _may_be_lost(trainer: Any, logger: Any) -> AbstractContextManager[None]:
    return report_may_be_lost(trainer, type(logger).__name__, str(getattr(logger, "log_dir", None)))


def _writer(trainer: Any, logger: Any) -> Any:
    """The SummaryWriter of a TensorBoardLogger of either of Lightning's names; None of another logger."""
    if not trainer.is_global_zero or trainer.fast_dev_run or type(logger).__name__ != "TensorBoardLogger":
        return None
    experiment = logger.experiment
    return experiment if hasattr(experiment, "_get_file_writer") else None
