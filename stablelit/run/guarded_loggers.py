"""Loggers whose failures to write do not end a training: TensorBoard's events, metrics.csv, hparams.yaml."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from stablelit.lost_reports import is_failed_write, note_lost

_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")
# a writer that is gone is made anew no more often than so, in seconds: each attempt starts a thread
_PATIENCE = 60.0


@dataclass
class _Gone:
    """A writer that is over, and until when none is begun in its place."""

    error: BaseException | None = None
    until: float = 0.0


class _Nowhere:
    """What Lightning and callbacks find in the place of a writer that is over."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing


def guard_loggers(trainer: pl.Trainer) -> None:
    """Lets the Trainer's loggers lose what they cannot write; it is counted and told as other lost reports are.

    TensorBoard's writer is over after one failure. A new one, with an event file of its own, is begun a minute later.
    """
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _quietly
    for logger in trainer.loggers:
        gone = _Gone()
        for name in _METHODS:
            if callable(getattr(type(logger), name, None)):
                setattr(logger, name, partial(_call, trainer, logger, getattr(type(logger), name), gone))


def begin_to_log(trainer: pl.Trainer) -> None:
    """Begins TensorBoard's files, which Lightning does at the beginning of a fit where nothing guards it."""
    # of what is begun before a process is forked, the thread that writes stays behind
    if trainer.strategy.launcher is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _call(trainer, logger, lambda it: it.experiment, _Gone())


def _call(trainer: Any, logger: Any, method: Callable[..., Any], gone: _Gone, *args: Any, **kwargs: Any) -> Any:
    if gone.error is not None and time.monotonic() < gone.until:
        note_lost(trainer, type(logger).__name__, _directory(logger), gone.error)
        return None
    if isinstance(getattr(logger, "_experiment", None), _Nowhere):
        logger._experiment = None
    try:
        return method(logger, *args, **kwargs)
    except Exception as error:
        # Lightning's TensorBoard logger calls whatever goes wrong a value that cannot be logged
        failed = _failed_write(error)
        if failed is None:
            raise
        note_lost(trainer, type(logger).__name__, _directory(logger), failed)
        if isinstance(logger, TensorBoardLogger):
            logger._experiment = _Nowhere()  # type: ignore[assignment]
            gone.error, gone.until = failed, time.monotonic() + _PATIENCE
        return None


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _failed_write(error: BaseException | None) -> BaseException | None:
    while error is not None and not is_failed_write(error):
        error = error.__cause__
    return error


def _quietly(args: Any) -> None:
    """The thread that writes TensorBoard's events prints what ended it, and that is told already."""
    if type(args.thread).__name__ != "_AsyncWriterThread" or not is_failed_write(args.exc_value):
        threading.__excepthook__(args)


def _directory(logger: Any) -> str:
    return str(getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None) or type(logger).__name__)
