"""The rule about a learning rate that is too low: the loss hardly falls, and weights cannot get anywhere."""

from __future__ import annotations

import math

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rules._chance import stands_at_chance
from stablelit.doctor.rules._loss_course import (
    GOOD_RATIO,
    MODEST_MOVEMENT,
    course,
    falls,
    highest_rate,
    loss_course,
    movement,
    planned,
    update_ratios,
)
from stablelit.doctor.rules._words import one_digit, shown
from stablelit.findings import Finding
from stablelit.functional.curve_tests import Course, theil_sen
from stablelit.functional.medians import median_of

# weights that can move by 2 % in the whole run stay what they were drawn as; 6 % is the least that was seen to learn
_SMALL_MOVEMENT = 0.02


def rate_too_low(evidence: Evidence) -> Finding | None:
    """The loss hardly falls, and the weights cannot get anywhere in what is planned."""
    of = loss_course(evidence)
    total = planned(evidence)
    if of is None or total is None or (of.points < 24 and evidence.origin == "run"):
        return None
    moved = movement(evidence)
    if moved is not None and moved >= MODEST_MOVEMENT:
        return None  # nearly every run
    share = drop_at_end(of, total) / abs(of.start) if of.start else 0.0
    flat = of.drop + 2.0 * of.drop_noise < 0.06 * abs(of.start) and not falls(of)
    if moved is None:
        slow = not len(update_ratios(evidence)) and share < 0.03 and falls_steadily(of)
    elif moved < _SMALL_MOVEMENT:
        slow = share < 0.2 or not falls(of)
    else:
        at_chance = stands_at_chance(evidence, of.late) is True and share < 0.1
        slow = flat or at_chance or _creeps(evidence, of, total)
    if not slow:
        return None
    ratios = update_ratios(evidence)
    typical = float(np.quantile(ratios, 0.9)) if len(ratios) else math.nan
    return _too_low(evidence, of, moved, typical, share)


def _creeps(evidence: Evidence, of: Course, total: float) -> bool:
    """Whether the loss, of training or of validation, falls in a straight line that leads nowhere by the end."""
    validation = course(evidence.curve("val_loss"))
    return any(
        curve is not None and falls_steadily(curve) and drop_at_end(curve, total) < 0.4 * abs(curve.start)
        for curve in (of, validation)
    )


def drop_at_end(of: Course, total: float) -> float:
    """What the loss will have fallen by at the end of the run, if it goes on falling as it does."""
    half = of.blocks[len(of.blocks) // 2 :]
    slope, _, _ = theil_sen(half)
    per_block = (of.last_step - of.first_step) / len(of.blocks)
    remaining = max(0.0, total - of.last_step) / per_block if per_block > 0 else 0.0
    return float(median_of(of.blocks[:1]) - median_of(of.blocks[-2:])) - slope * remaining


def falls_steadily(of: Course) -> bool:
    """Whether the loss falls in the second half of what was seen as in the first, for sure, and has not bent."""
    if len(of.blocks) < 8 or of.trend > -3.0:
        return False
    half = len(of.blocks) // 2
    early, _, _ = theil_sen(of.blocks[:half])
    late, _, _ = theil_sen(of.blocks[-half:])
    return early < 0.0 and late < 0.6 * early


def _too_low(evidence: Evidence, of: Course, moved: float | None, ratio: float, share: float) -> Finding:
    facts: dict[str, float | int | str] = {
        "loss_first": of.start,
        "loss_late": of.late,
        "fall_by_the_end": share,
    }
    said = f"the loss went from {shown(float(of.blocks[0]))} to {shown(of.late)} in {of.last_step:.0f} steps"
    factor = 10.0
    if moved is not None:
        facts["movement"] = moved
        said += f", and the whole run moves the weights by {shown(100 * moved)} % of their size (healthy: 10 % or more)"
    if math.isfinite(ratio):
        facts["update_ratio"] = ratio
        factor = float(np.clip(GOOD_RATIO / ratio, 10.0, 1e4))
    rate = highest_rate(evidence)
    remedy = "raise the learning rate by ten"
    if rate:
        facts["learning_rate"] = rate
        remedy = evidence.settings.override("learning_rate", one_digit(rate * factor))
    return Finding("learning-rate-too-low", "warning", f"The learning rate is too low: {said}.", facts, remedy)
