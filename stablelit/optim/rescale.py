"""Lowers the learning rate of a run that goes on, so that its schedule keeps to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedulers
from torch.optim.swa_utils import SWALR

from stablelit.functional.schedules import check_number

# whatever of a schedule or of an optimizer's group is a learning rate
_OF_GROUPS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
_OF_SCHEDULERS = ("base_lrs", "max_lrs", "min_lrs", "default_min_lr", "eta_min", "eps", "_last_lr")
_KNOWN = (
    torch_schedulers.LambdaLR,
    torch_schedulers.MultiplicativeLR,
    torch_schedulers.StepLR,
    torch_schedulers.MultiStepLR,
    torch_schedulers.ConstantLR,
    torch_schedulers.LinearLR,
    torch_schedulers.ExponentialLR,
    torch_schedulers.SequentialLR,
    torch_schedulers.PolynomialLR,
    torch_schedulers.CosineAnnealingLR,
    torch_schedulers.ChainedScheduler,
    torch_schedulers.ReduceLROnPlateau,
    torch_schedulers.CyclicLR,
    torch_schedulers.CosineAnnealingWarmRestarts,
    torch_schedulers.OneCycleLR,
    SWALR,
)


def scale_learning_rates(optimizers: Iterable[Optimizer], schedulers: Iterable[Any], factor: float) -> None:
    """Multiplies every learning rate from now on by `factor`, whatever the schedule.

    Setting ``group["lr"]`` is undone by the next step of a schedule that computes from its base rate (LambdaLR,
    CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR) or bends one that has a floor (CosineAnnealingLR). So the base
    rates, peaks and floors are scaled with it: after the call, each schedule's sequence is `factor` times what it would
    have been. Momentum that CyclicLR and OneCycleLR cycle stays.

    Args:
        optimizers: whose groups are scaled.
        schedulers: torch's, alone or in SequentialLR and ChainedScheduler, and subclasses of them.
        factor: above 0.

    Raises:
        ConfigurationError: a factor that is not above 0.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        >>> scale_learning_rates([optimizer], [schedule], 0.5)
        >>> optimizer.step(); schedule.step(); optimizer.param_groups[0]["lr"]
        0.025
    """
    check_number("scale_learning_rates", "factor", factor, above=0.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name in _OF_GROUPS:
                if name in group:
                    group[name] = _scaled(group[name], factor)
    seen: set[int] = set()
    unknown: set[str] = set()
    for scheduler in schedulers:
        _scale_scheduler(scheduler, factor, seen, unknown)
    if unknown:
        warnings.warn(
            f"scale_learning_rates: {', '.join(sorted(unknown))} is no schedule of torch's; its base rates were scaled "
            f"where they have torch's names ({', '.join(_OF_SCHEDULERS)}), and others were not.",
            stacklevel=2,
        )


def _scale_scheduler(scheduler: Any, factor: float, seen: set[int], unknown: set[str]) -> None:
    if id(scheduler) in seen:
        return
    seen.add(id(scheduler))
    if not isinstance(scheduler, _KNOWN):
        unknown.add(type(scheduler).__name__)
    for name in _OF_SCHEDULERS:
        if getattr(scheduler, name, None) is not None:
            setattr(scheduler, name, _scaled(getattr(scheduler, name), factor))
    for inner in getattr(scheduler, "_schedulers", []):
        _scale_scheduler(inner, factor, seen, unknown)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_scaled(v, factor) for v in value)
    # a rate that is a tensor is what a captured graph or a compiled optimizer reads: it must stay the same object
    return value.mul_(factor) if isinstance(value, Tensor) else value * factor
