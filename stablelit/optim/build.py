"""From an optimizer and a learning-rate schedule, as partial functions, to what `configure_optimizers` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from stablelit.errors import bad_argument
from stablelit.optim.plateau import MonitoredPlateau

OptimizerFactory = Callable[..., Optimizer]
ScheduleFactory = Callable[..., Any]


def build_optimizers(
    module: Any,
    optimizer: OptimizerFactory | None,
    lr_schedule: ScheduleFactory | None,
    learning_rate: float,
) -> dict[str, Any]:
    """The optimizer of all trainable parameters, with its schedule.

    The schedule is stepped after every optimizer step; one that follows a metric after every validation.

    Args:
        module: a LightningModule attached to a Trainer (whose length the schedule needs).
        optimizer: takes parameters and ``lr=`` (pairs of name and parameter, if it says `takes_names`); None is AdamW
            with weight decay 1e-4.
        lr_schedule: takes the optimizer and ``total_steps=``, or None for a constant rate.
        learning_rate: the peak rate. It is the module's own attribute, so that Lightning's finder can set it.

    Returns:
        Lightning's dictionary form.
    """
    make = optimizer if optimizer is not None else _adamw
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    takes_names = getattr(getattr(make, "func", make), "takes_names", False)
    built = make(named if takes_names else [p for _, p in named], lr=learning_rate)
    if lr_schedule is None:
        return {"optimizer": built}
    scheduler = lr_schedule(built, total_steps=planned_steps(module.trainer))
    if isinstance(scheduler, MonitoredPlateau):
        # a metric is there once a validation; between two, asking again would count the last one twice
        every = getattr(module.trainer, "check_val_every_n_epoch", 1) or 1
        told = {"scheduler": scheduler, "interval": "epoch", "frequency": every, "monitor": scheduler.monitor}
        return {"optimizer": built, "lr_scheduler": told}
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_factories(owner: str, **factories: object) -> None:
    """Raises unless each is None or can be called.

    Raises:
        ConfigurationError: anything else, such as the optimizer itself.
    """
    for name, factory in factories.items():
        if factory is not None and not callable(factory):
            raise bad_argument(owner, name, factory, "a function (functools.partial of a class) or None")


def planned_steps(trainer: Any) -> int | float:
    """Optimizer steps of the planned run, asked without harm to a resume.

    To answer, Lightning builds the train loader. It does so before it reads the checkpoint's loop state, and a loader
    that exists is not given its state any more: a run resumed inside an epoch would begin the epoch's data anew. So
    the loader built for the answer is let go, and the fit builds its own (Lightning 2.6.6, `FitLoop.setup_data`).
    """
    built_before = trainer.train_dataloader is not None
    steps: int | float = trainer.estimated_stepping_batches
    if not built_before:
        trainer.fit_loop._combined_loader = None
    return steps


def _adamw(parameters: Any, lr: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-4)
