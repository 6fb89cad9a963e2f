"""The step of ReduceLROnPlateau that Lightning leaves out at every resume.

It is taken when an epoch is over, which is after every checkpoint of that epoch; and Lightning does not take it in the
epoch in which a run goes on, because the metric is not in its checkpoints (2.6.6, `_FitLoop.on_advance_end`).
"""

from __future__ import annotations

from typing import Any


def epoch_is_closing(trainer: Any) -> bool:
    """Whether this is `on_train_epoch_end`: schedules that wait for a metric are stepped behind it."""
    epochs = trainer.fit_loop.epoch_progress.current
    return bool(epochs.processed == epochs.completed + 1)


def take_plateau_step(trainer: Any, pl_module: Any, epochs: int) -> None:
    """Steps those that wait for a metric at an epoch's end, as Lightning does.

    Args:
        trainer: with what was logged standing in `callback_metrics`.
        pl_module: its `lr_scheduler_step` may be somebody's own.
        epochs: that are over, the one counted in whose step this is.
    """
    if not pl_module.automatic_optimization:
        return
    progress = trainer.fit_loop.epoch_loop.scheduler_progress
    for config in trainer.lr_scheduler_configs:
        if not config.reduce_on_plateau or config.interval != "epoch" or epochs % config.frequency:
            continue
        value = trainer.callback_metrics.get(config.monitor)
        if value is None:
            continue  # not logged yet: the next epoch's end says so, if it must be
        progress.increment_ready()
        pl_module.lr_scheduler_step(config.scheduler, value)
        progress.increment_completed()
