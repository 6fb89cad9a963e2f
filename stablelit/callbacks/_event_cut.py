"""TensorBoard's events around a resume: on the disk when a checkpoint is, and cut back to it afterwards."""

from __future__ import annotations

from typing import Any


def flush_events(trainer: Any) -> None:
    """Writes out what has been logged so far: a killed process takes with it what waits in its queue."""
    for writer in _writers(trainer):
        writer.flush()


def cut_events(trainer: Any, step: int) -> None:
    """Tells TensorBoard that the run begins anew at this step: what an earlier file has from there on is not shown.

    It is what `SummaryWriter(purge_step=...)` writes (tensorflow/core/util/event.proto, `SessionLog.START`).
    """
    writers = _writers(trainer)
    if not writers:
        return
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

    for writer in writers:
        writer._get_file_writer().add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))


def log_late(trainer: Any, step: int, values: dict[str, float]) -> None:
    """Gives TensorBoard what the run was killed before it logged; where it had, the same point stands twice."""
    for logger in trainer.loggers:
        if _writer(trainer, logger) is not None:
            logger.log_metrics(values, step=step)


def _writers(trainer: Any) -> list[Any]:
    return [writer for logger in trainer.loggers if (writer := _writer(trainer, logger)) is not None]


def _writer(trainer: Any, logger: Any) -> Any:
    """The SummaryWriter of a TensorBoardLogger of either of Lightning's names; None of another logger."""
    if not trainer.is_global_zero or trainer.fast_dev_run or type(logger).__name__ != "TensorBoardLogger":
        return None
    experiment = logger.experiment
    return experiment if hasattr(experiment, "_get_file_writer") else None
