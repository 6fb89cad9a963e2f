"""Learning-rate warm-up and decay, in the clock notation of the whole suite."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.schedules import Ramp, check_number, parse_duration


def warmup_schedule(
    optimizer: Optimizer,
    total_steps: int | float,
    warmup: int | str = "0.05dur",
    decay: str = "cosine",
    final: float = 0.01,
    allow_unfinished: bool = False,
) -> LambdaLR:
    """Rises linearly to the optimizer's learning rate, then decays to a share of it at the end of the run.

    With s the step, w the warm-up and T the total: ``min(1, (s + 1) / (w + 1))`` until w, then
    ``1 + (final - 1) f((s - w) / (T - 1 - w))``, so that the last step taken has exactly the final rate.

    Args:
        optimizer: whose rate is scheduled.
        total_steps: optimizer steps of the run.
        warmup: a clock string in optimizer steps or a share of the run.
        decay: a monotone pacing name (`linear`, `cosine`, `sigmoid`, `exponential`, `root`, `step`) or `none`.
        final: the share of the rate that is left at the end.
        allow_unfinished: accept a warm-up that is longer than the run, whose rate then never gets to its peak.

    Raises:
        ConfigurationError: a warm-up in batches or epochs, longer than the run, a final share outside [0, 1], an
            unknown decay, or a run without a length.
    """
    owner = "warmup_schedule"
    if not math.isfinite(total_steps) or total_steps < 0:
        raise ConfigurationError(
            f"{owner}: the run has no known length (total_steps={total_steps}); set trainer.max_steps or max_epochs."
        )
    if total_steps == 0:
        raise ConfigurationError(
            f"{owner}: the run has no optimizer step: an epoch has no batch, or max_epochs is 0. Each rank "
            f"needs a batch of its own: give more samples, or a smaller batch size."
        )
    length = parse_duration(warmup, "warmup", owner)
    if length.unit not in ("st", "dur"):
        raise bad_argument(owner, "warmup", warmup, "optimizer steps ('500st') or a share of the run ('0.05dur')")
    warm = round(length.amount * total_steps) if length.unit == "dur" else int(length.amount)
    # a run of a handful of steps (fast_dev_run, a smoke test) is no place for a warm-up
    if warm > total_steps > 1 and not allow_unfinished:
        remedy = "To keep it as it is: allow_unfinished=True."
        raise bad_argument(owner, "warmup", warmup, f"at most the run's {total_steps:g} optimizer steps", remedy)
    check_number(owner, "final", final, at_least=0.0, at_most=1.0)
    ramp = None if decay == "none" else Ramp(1.0, final, decay, owner=owner)
    warm = warm if total_steps > 1 else min(warm, 1)
    return LambdaLR(optimizer, partial(_factor, warm=warm, last=int(total_steps) - 1, ramp=ramp))


def _factor(step: int, warm: int, last: int, ramp: Ramp | None) -> float:
    if step < warm:
        return (step + 1) / (warm + 1)
    if ramp is None or last <= warm:
        return 1.0
    return ramp.value((step - warm) / (last - warm))
