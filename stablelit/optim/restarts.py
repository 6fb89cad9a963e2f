"""Cosine annealing with warm restarts, in the clock notation of the whole suite."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_number, parse_duration


def restarts_schedule(
    optimizer: Optimizer,
    total_steps: int | float,
    first_period: int | str = "0.1dur",
    factor: int = 2,
    final: float = 0.0,
) -> LambdaLR:
    """Falls along half a cosine, jumps back to the full rate, and takes longer every time.

    In period i of length ``T_i = T_0 factor^i``, s steps into it::

        final + (1 - final) (1 + cos(pi s / T_i)) / 2

    so that the last step of a period is not yet at `final`, and the next one is back at the full rate.

    Source: Loshchilov and Hutter 2017 (arXiv:1608.03983) eq. 5; torch's `CosineAnnealingWarmRestarts`, in optimizer
    steps, with a share of the rate in place of `eta_min`.

    Args:
        optimizer: whose rate is scheduled.
        total_steps: optimizer steps of the run.
        first_period: T_0, a clock string in optimizer steps or a share of the run.
        factor: by which each period is longer than the one before.
        final: the share of the rate that a period falls to.

    Raises:
        ConfigurationError: a period in batches or epochs or of no step, a factor below 1, a final share outside [0, 1],
            or a share of a run without a length.
    """
    owner = "restarts_schedule"
    length = parse_duration(first_period, "first_period", owner)
    if length.unit not in ("st", "dur"):
        raise bad_argument(owner, "first_period", first_period, "optimizer steps ('140st') or a share of the run")
    if length.unit == "dur" and not math.isfinite(total_steps):
        raise bad_argument(owner, "first_period", first_period, "optimizer steps in a run without a known length")
    steps = max(1, round(length.amount * total_steps)) if length.unit == "dur" else int(length.amount)
    if length.amount == 0:
        raise bad_argument(owner, "first_period", first_period, "at least one optimizer step")
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise bad_argument(owner, "factor", factor, "an int of at least 1")
    check_number(owner, "final", final, at_least=0.0, at_most=1.0)
    return LambdaLR(optimizer, partial(_factor, first=steps, factor=factor, final=final))


def _factor(step: int, first: int, factor: int, final: float) -> float:
    period = first
    while step >= period:
        step -= period
        period *= factor
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * step / period))
