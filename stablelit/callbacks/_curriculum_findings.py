"""What CurriculumCallback has to say about a run: ramps that do not fit it, and who is misled by one."""

from __future__ import annotations

import math
from typing import Any

from stablelit.callbacks._clock import RampClock, planned
from stablelit.callbacks._training_metrics import deciders, training_metrics
from stablelit.findings import Finding
from stablelit.functional.pacing import Pacing
from stablelit.functional.schedules import CLOCK_UNITS
from stablelit.optim.warmup_length import warmup_length


def findings_of_the_plan(trainer: Any, pacing: Pacing, ramp: RampClock, allow_unfinished: bool) -> list[Finding]:
    """What can be said before the first step.

    Raises:
        ConfigurationError: the planned run ends before full difficulty, and nobody has allowed that.
    """
    if trainer.fast_dev_run:
        return []
    reach = ramp.reach(trainer)
    found = [_unfinished(trainer, pacing, ramp, reach), _inside_warmup(trainer, pacing, ramp)]
    if found[0] is not None and pacing.ends and not allow_unfinished:
        raise ramp.overrun(trainer, "allow_unfinished", _outcome(pacing, reach))
    return [finding for finding in found if finding is not None]


def stopped_early(pacing: Pacing, difficulty: float, progress: float) -> Finding | None:
    """Of a run that has ended inside its curriculum, by early stopping or behind a gate."""
    if difficulty >= pacing.end or not pacing.ends:
        return None
    return Finding(
        "curriculum-unfinished",
        "warning",
        f"training ended when {_below(100 * progress, 100, 0)}% of the ramp had passed: the difficulty reached "
        f"d={_below(difficulty, pacing.end)} of {pacing.end:g}, so the task itself was never trained on.",
        {"difficulty": difficulty, "end": float(pacing.end), "progress": progress},
        "a shorter ramp, a smaller max_hold of the gate, or a longer run",
    )


def _inside_warmup(trainer: Any, pacing: Pacing, ramp: RampClock) -> Finding | None:
    """Of a ramp that is over before the learning rate has warmed up: most of it is not learned from."""
    if not trainer.lightning_module.automatic_optimization or pacing.name == "constant" or not ramp.duration.amount:
        return None
    steps_an_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
    steps_a_unit = {"st": 1.0, "ba": 1 / trainer.accumulate_grad_batches, "ep": steps_an_epoch}[ramp.unit]
    end, run = ramp.end * steps_a_unit, planned(trainer, "st")
    if not math.isfinite(end):
        return None
    for config in trainer.lr_scheduler_configs:
        steps_a_tick = config.frequency * (steps_an_epoch if config.interval == "epoch" else 1.0)
        # behind the run's end, or that of a ramp that the run does not finish, nobody asks
        longest = math.ceil((max(run, end) if math.isfinite(run) else end) / steps_a_tick)
        ticks = warmup_length(config.scheduler, longest)
        if ticks is None or ticks * steps_a_tick <= end:
            continue
        more = "more than " if ticks > longest else ""
        warm = min(ticks, longest) * steps_a_tick
        return Finding(
            "curriculum-inside-warmup",
            "warning",
            f"the ramp is over after {end:g} optimizer steps, and the learning rate warms up for {more}{warm:g} "
            f"({type(config.scheduler).__name__}): the easy part goes by while little is learned.",
            {"ramp": float(end), "warmup": float(warm)},
            f"a warm-up of less than {end:g} steps, or a longer callbacks.curriculum.duration",
        )
    return None


def misled(trainer: Any) -> Finding | None:
    """Of somebody who decides by a metric of training while the difficulty moves it."""
    moved = training_metrics(trainer)
    found = [(kind, monitor) for kind, monitor in deciders(trainer) if monitor in moved]
    if not found:
        return None
    kind, monitor = found[0]
    return Finding(
        "monitor-moves-with-difficulty",
        "warning",
        f"{' and '.join(f'{k} looks at {m}' for k, m in found)}, a metric of training: it rises with the difficulty, "
        f"whatever is learned, and the best value is that of the easiest task.",
        {"monitor": monitor, "by": kind},
        "a validation metric: validation is at full difficulty",
    )


def _unfinished(trainer: Any, pacing: Pacing, ramp: RampClock, reach: float) -> Finding | None:
    """Of a run that was planned to end before its curriculum; None where it ends at full difficulty."""
    if pacing.value(reach) >= pacing.end:
        return None
    length, unit = planned(trainer, ramp.unit), CLOCK_UNITS[ramp.unit]
    never = "" if pacing.ends else f" pacing={pacing.name!r} stands at {pacing.value(1.0):.3f} when its ramp is over."
    return Finding(
        "curriculum-unfinished",
        "warning",
        f"the run is {length:g} {unit} long and the ramp {ramp.end:g}: {_outcome(pacing, reach)}, so the task itself "
        f"is never trained on.{never}",
        {"difficulty": pacing.value(reach), "end": float(pacing.end), "run": length, "ramp": float(ramp.end)},
        "callbacks.curriculum.duration=0.5dur, or a longer run" if pacing.ends else "pacing=saturating",
    )


def _outcome(pacing: Pacing, reach: float) -> str:
    return f"the difficulty reaches d={_below(pacing.value(reach), pacing.end)} of {pacing.end:g}"


def _below(value: float, end: float, digits: int = 2) -> str:
    """A number with as many digits as it takes to be below `end`, where it is."""
    while value < end <= float(f"{value:.{digits}f}"):
        digits += 1
    return f"{value:.{digits}f}"
