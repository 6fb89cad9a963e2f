"""Rules about learning rate schedules, read from the rate as it was and from what is planned.

A rate is no measurement: it has no noise, so these rules are exact, but for whether the loss was still falling.
"""

from __future__ import annotations

import math

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import course, planned
from stablelit.doctor.rules._rate_course import returns, vanishes, warmup_end
from stablelit.doctor.rules._words import shown
from stablelit.findings import Finding
from stablelit.functional.curve_tests import course_of
from stablelit.functional.trends import mann_kendall_z

_EARLY_SHARE, _LATE_SHARE = 0.25, 0.7
_LEAST_STEPS = 50
# of the run; cycles of a tenth of it and longer are in use
_SHORT_CYCLE = 0.07
_MEANT_TO_RETURN = ("restart", "cyclic")


def steps_wrong(evidence: Evidence) -> Finding | None:
    """A schedule that was written in epochs is stepped per step, or the reverse."""
    rates = evidence.curve("lr")
    epochs, per_epoch = evidence.settings.max_epochs, evidence.settings.steps_per_epoch
    total = planned(evidence)
    interval = _interval(evidence)
    if len(rates) < 8 or not epochs or not per_epoch or per_epoch < 4 or not total or not interval:
        return None
    if interval == "step":
        return _epochs_counted_in_steps(evidence, rates, epochs, total)
    return _steps_counted_in_epochs(evidence, rates, epochs, per_epoch, total)


def _epochs_counted_in_steps(evidence: Evidence, rates: Curve, epochs: int, total: float) -> Finding | None:
    found = returns(rates)
    if found is not None:
        _, period = found
        # a cosine that is stepped beyond its end takes as long to come back as it took to fall
        counts = min(abs(period - epochs), abs(0.5 * period - epochs)) <= 0.1 * epochs + 1.0
        if not counts or epochs < 2 or total <= 4.0 * period:
            return None
        said = f"the rate comes back every {shown(period)} steps, and {epochs} epochs are planned"
        return _wrong(evidence, said, "step", period)
    gone = vanishes(rates)
    if gone is None or gone > 1.5 * epochs + 1.0 or total <= 4.0 * gone or _is_returning(evidence):
        return None
    said = f"the rate has fallen to less than 1 % of its peak after {gone:.0f} steps, and {epochs} epochs are planned"
    return _wrong(evidence, said, "step", gone)


def _steps_counted_in_epochs(
    evidence: Evidence, rates: Curve, epochs: int, per_epoch: float, total: float
) -> Finding | None:
    if epochs < 2:
        return None
    reached = warmup_end(evidence)
    if reached is not None and reached > 3.0 * total:
        said = f"the rate would have risen in {reached / per_epoch:.0f} epochs, and {epochs} are planned"
        return _wrong(evidence, said, "epoch", reached / per_epoch)
    done = float(rates.steps[-1]) / per_epoch
    rises = bool(rates.values[-1] >= rates.values.max()) and float(rates.values[0]) < float(rates.values[-1])
    if "onecycle" in _kind(evidence) and done > 0.6 * epochs and rises:
        said = f"the rate still rises after {done:.0f} of {epochs} epochs"
        return _wrong(evidence, said, "epoch", done)
    if "cosineannealinglr" in _kind(evidence) and done >= 1.0:
        whole = math.floor(done)
        share = float(rates.values[-1] / rates.values.max())
        if 0.5 < share < 1.0:
            needed = math.pi * whole / math.acos(2.0 * share - 1.0)
            if needed > 5.0 * epochs or (needed > 2.0 * epochs and abs(needed - total) < 0.15 * total):
                said = f"the rate would fall in {needed:.0f} epochs, and {epochs} are planned"
                return _wrong(evidence, said, "epoch", needed)
    return None


def _wrong(evidence: Evidence, said: str, interval: str, length: float) -> Finding:
    name = evidence.settings.schedules[0].partition("/")[0]
    other = "epoch" if interval == "step" else "step"
    unit = "steps" if interval == "step" else "epochs"
    return Finding(
        "schedule-steps-wrong",
        "warning",
        f"{name} is stepped every {interval} but counts in {other}s: {said}.",
        {"interval": interval, "length": length, "max_epochs": evidence.settings.max_epochs or 0},
        f'return {{"scheduler": ..., "interval": "{other}"}} from configure_optimizers, or give its length in {unit}',
    )


def restarts_too_often(evidence: Evidence) -> Finding | None:
    """The rate comes back to its height more than once an epoch and fourteen times in the run."""
    found = returns(evidence.curve("lr"))
    total = planned(evidence)
    if found is None or total is None or steps_wrong(evidence) is not None:
        return None
    cycles, period = found
    per_epoch = evidence.settings.steps_per_epoch
    most = min(per_epoch or 20.0, _SHORT_CYCLE * total)
    if cycles < 6 or period > most:
        return None
    return Finding(
        "schedule-restarts-too-often",
        "warning",
        f"The learning rate comes back to its height every {shown(period)} steps ({cycles} times so far); "
        f"{total:.0f} steps are planned, and a cycle should last an epoch or more.",
        {"period": period, "cycles": cycles, "planned_steps": total},
        "give the schedule a cycle of several epochs, counted in what it is stepped by",
    )


def ends_early(evidence: Evidence) -> Finding | None:
    """The rate is gone long before the run is, while the loss still fell."""
    rates = evidence.curve("lr")
    total = planned(evidence)
    gone = vanishes(rates)
    if gone is None or total is None or gone > _LATE_SHARE * total or _is_returning(evidence):
        return None
    stayed = float(rates.steps[-1]) - gone
    if rates.steps[-1] < _LEAST_STEPS or stayed < max(10.0, 0.02 * total) or steps_wrong(evidence) is not None:
        return None
    found = _when_it_went(evidence, gone)
    if found is None:
        return None
    falling, learned = found
    early = gone < _EARLY_SHARE * total and "plateau" not in _kind(evidence)
    if not (falling or (early and learned < 0.95)):
        return None
    return Finding(
        "schedule-ends-early",
        "warning",
        f"The learning rate fell to less than 1 % of its peak at step {gone:.0f} of {total:.0f}, while the loss still "
        "fell; a schedule should last as long as the run.",
        {"gone_at": gone, "planned_steps": total, "peak": float(rates.values.max()), "rate": rates.last},
        f"give the schedule a length of {total:.0f} steps",
    )


def _when_it_went(evidence: Evidence, gone: float) -> tuple[bool, float] | None:
    """Whether the loss was falling while the rate went, and the share of the loss that had been learned by then."""
    curve = evidence.curve("loss").finite()
    count = int(np.searchsorted(curve.steps, gone))
    if count < 8:
        whole = course(evidence.curve("loss"))
        return None if whole is None or whole.points < 8 else (False, _learned(whole.start, whole.late))
    of = course_of(curve.steps[:count], curve.values[:count])
    half = of.blocks[len(of.blocks) // 3 :]
    fallen = float(np.median(half[:2]) - np.median(half[-2:]))
    falling = mann_kendall_z(half.tolist()) < -2.0 and fallen > max(3.0 * of.block_noise, 0.05 * abs(of.start))
    return falling, _learned(of.start, of.late)


def _learned(start: float, late: float) -> float:
    return (start - late) / abs(start) if start > 0.0 and late >= 0.0 else 0.0


def warmup_too_long(evidence: Evidence) -> Finding | None:
    """The rate rises in a straight line, and would reach its height after the end of the run."""
    total = planned(evidence)
    reached = warmup_end(evidence)
    if total is None or reached is None or reached < 1.05 * total or steps_wrong(evidence) is not None:
        return None
    rate = evidence.settings.learning_rate or math.nan
    return Finding(
        "warmup-longer-than-run",
        "warning",
        f"The learning rate warms up until step {reached:.0f}, and the run has {total:.0f}: at its end it has "
        f"{shown(100 * min(1.0, total / reached))} % of the {shown(rate)} that are asked for.",
        {"warmup_steps": reached, "planned_steps": total, "learning_rate": rate},
        f"warm up for {max(1, round(0.05 * total))} steps (5 % of the run)",
    )


def _kind(evidence: Evidence) -> str:
    return evidence.settings.schedules[0].partition("/")[0].lower() if evidence.settings.schedules else ""


def _interval(evidence: Evidence) -> str:
    return evidence.settings.schedules[0].partition("/")[2] if len(evidence.settings.schedules) == 1 else ""


def _is_returning(evidence: Evidence) -> bool:
    return any(name in _kind(evidence) for name in _MEANT_TO_RETURN)


_SLOW = ("learning-rate-too-low", "not-learning", "plateau", "parameters-do-not-move", "loss-oscillates")

SCHEDULE_RULES: tuple[Rule, ...] = (
    Rule(
        "schedule-steps-wrong",
        Rank.SETTINGS,
        ("curves.lr", "settings.schedules", "settings.max_epochs", "settings.steps_per_epoch"),
        steps_wrong,
        "structural",
        (
            "schedule-ends-early",
            "schedule-restarts-too-often",
            "warmup-longer-than-run",
            "learning-rate-too-high",
            *_SLOW,
        ),
        "A schedule written in epochs is stepped per step, or the reverse.",
    ),
    Rule(
        "schedule-restarts-too-often",
        Rank.SETTINGS,
        ("curves.lr",),
        restarts_too_often,
        "curve",
        _SLOW,
        "The rate comes back more than once an epoch.",
    ),
    Rule(
        "schedule-ends-early",
        Rank.SETTINGS,
        ("curves.lr", "curves.loss"),
        ends_early,
        "curve",
        _SLOW,
        "The rate is gone long before the run is, while the loss still fell.",
    ),
    Rule(
        "warmup-longer-than-run",
        Rank.SETTINGS,
        ("curves.lr",),
        warmup_too_long,
        "curve",
        _SLOW,
        "The warm-up would end after the run does.",
    ),
)
