"""A learning rate that falls where a metric has stopped getting better."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number


class MonitoredPlateau(ReduceLROnPlateau):
    """torch's, with the name of the metric that it follows, which Lightning has to be told.

    Args:
        monitor: the metric's name.
        optimizer: whose rate falls.
        settings: torch's own.
    """

    def __init__(self, monitor: str, optimizer: Optimizer, **settings: Any) -> None:
        super().__init__(optimizer, **settings)
        self.monitor = monitor


def plateau_schedule(
    optimizer: Optimizer,
    total_steps: int | float,
    monitor: str = "val/loss",
    mode: str = "min",
    factor: float = 0.5,
    patience: int = 3,
    cooldown: int = 1,
    threshold: float = 1e-4,
    final: float = 0.0,
) -> MonitoredPlateau:
    """Multiplies the rate by `factor` after more than `patience` validations without a better value.

    Args:
        optimizer: whose rate falls.
        total_steps: not used: it goes by the metric.
        monitor: the metric, one that knows no test data and no truth that the run is judged by.
        mode: "min" or "max".
        factor: in (0, 1).
        patience: validations that may be no better.
        cooldown: validations after a fall that do not count.
        threshold: relative change that counts as better.
        final: the rate below which it does not fall.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> import torch
        >>> plateau_schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), 100).monitor
        'val/loss'
    """
    del total_steps
    owner = "plateau_schedule"
    if not isinstance(monitor, str) or not monitor:
        raise bad_argument(owner, "monitor", monitor, "the name of a logged metric")
    if mode not in ("min", "max"):
        raise bad_argument(owner, "mode", mode, "min, max")
    check_number(owner, "factor", factor, above=0.0, at_most=1.0)
    if factor == 1.0:
        raise bad_argument(owner, "factor", factor, "a number in (0, 1)")
    check_count(owner, "patience", patience, 0)
    check_count(owner, "cooldown", cooldown, 0)
    check_number(owner, "threshold", threshold, at_least=0.0)
    check_number(owner, "final", final, at_least=0.0)
    return MonitoredPlateau(
        monitor,
        optimizer,
        mode=mode,
        factor=factor,
        patience=patience,
        cooldown=cooldown,
        threshold=threshold,
        min_lr=final,
    )
