"""Which metrics are of training steps, and who decides by one of them."""

from __future__ import annotations

from typing import Any


def training_metrics(trainer: Any) -> set[str]:
    """The names under which training_step has logged in this epoch, with those that Lightning derives from them."""
    names: set[str] = set()
    for result in trainer.fit_loop.epoch_loop._results.values():
        if result.meta.fx == "training_step":
            name = result.meta.name
            names |= {name, f"{name}_step", f"{name}_epoch"} if result.meta.forked else {name}
    return names


def deciders(trainer: Any) -> list[tuple[str, str]]:
    """Callbacks and learning-rate schedules that decide by a metric: what they are, and its name."""
    found = [(type(c).__name__, getattr(c, "monitor", None)) for c in trainer.callbacks]
    found += [(type(c.scheduler).__name__, c.monitor) for c in trainer.lr_scheduler_configs if c.reduce_on_plateau]
    return [(kind, monitor) for kind, monitor in found if isinstance(monitor, str)]
