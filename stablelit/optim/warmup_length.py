"""How long a learning-rate schedule rises before it begins to fall or to stay."""

from __future__ import annotations

import types
from functools import partial
from typing import Any

from torch.optim import lr_scheduler as torch_schedulers


def warmup_length(scheduler: Any, longest: int) -> int | None:
    """Steps of `scheduler` until its rate stops to rise for the first time, without a step being taken.

    Read where the schedule says it (`LinearLR`, `ConstantLR`, `OneCycleLR`, `CyclicLR`, the first of a `SequentialLR`
    with the milestone that ends it), and found by asking for the factor of a `LambdaLR`, as `warmup_schedule` makes
    one, whose factor is a function; an object that is called may count its calls.

    Args:
        scheduler: a schedule of torch's.
        longest: where to stop asking, in steps.

    Returns:
        0 where the rate does not rise at the beginning; ``longest + 1`` where a LambdaLR rises for longer than that;
        None where nobody can tell.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> warmup_length(torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=30), longest=100)
        30
    """
    if isinstance(scheduler, torch_schedulers.SequentialLR):
        first, end = scheduler._schedulers[0], int(scheduler._milestones[0])
        length = warmup_length(first, longest)
        return length if length is None else min(length, end)
    if isinstance(scheduler, torch_schedulers.LinearLR):
        return int(scheduler.total_iters) if scheduler.start_factor < scheduler.end_factor else 0
    if isinstance(scheduler, torch_schedulers.ConstantLR):
        return int(scheduler.total_iters) if scheduler.factor < 1 else 0
    if isinstance(scheduler, torch_schedulers.OneCycleLR):
        return round(scheduler._schedule_phases[0]["end_step"])
    if isinstance(scheduler, torch_schedulers.CyclicLR):
        return round(scheduler.total_size * scheduler.step_ratio)
    if isinstance(scheduler, torch_schedulers.LambdaLR):
        return _rise_of(scheduler.lr_lambdas[0], longest)
    falling = (
        torch_schedulers.StepLR,
        torch_schedulers.MultiStepLR,
        torch_schedulers.ExponentialLR,
        torch_schedulers.PolynomialLR,
        torch_schedulers.CosineAnnealingLR,
        torch_schedulers.CosineAnnealingWarmRestarts,
        torch_schedulers.ReduceLROnPlateau,
    )
    return 0 if isinstance(scheduler, falling) else None


def _rise_of(factor: Any, longest: int) -> int | None:
    inner = factor.func if isinstance(factor, partial) else factor
    if not isinstance(inner, types.FunctionType):
        return None

    def rises(step: int) -> bool:
        return bool(factor(step + 1) > factor(step))

    # twice as far each time while it rises, then halves: a warm-up of ten thousand steps takes thirty questions
    if not rises(0):
        return 0
    low, high = 0, 1
    while rises(high):
        if high > longest:
            return longest + 1
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    return min(high, longest + 1)
