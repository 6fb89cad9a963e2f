"""Rules about the size of steps: learning rates that are too high and too low."""

from __future__ import annotations

import math

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import stands_at_chance
from stablelit.doctor.rules._loss_course import (
    course,
    falls,
    hardly_falls,
    highest_rate,
    is_adaptive,
    is_every_step,
    is_long_enough,
    is_maximized,
    loss_course,
    movement,
    planned,
    shown,
    step_sizes,
    update_ratios,
)
from stablelit.findings import Finding
from stablelit.functional.curve_tests import Course, theil_sen
from stablelit.functional.trends import mann_kendall_z

HEALTHY_RATIO = 1e-3
# of the first step, at rates that learn well: 0.005 to 0.1 with SGD and with Adam
_GOOD_RATIO = 0.02
# a first step of half the weights: nets of a few wide layers learn at up to 0.43 (measured), at a rate a hundred times
# too high it is 1.3 or more
_LARGE_RATIO = 0.5
# weights that can move by 2 % in the whole run stay what they were drawn as; 6 % is the least that was seen to learn
_SMALL_MOVEMENT, MODEST_MOVEMENT = 0.02, 0.15
_EARLY_STEPS = 50


def rate_too_high(evidence: Evidence) -> Finding | None:
    """The loss has blown up, or jumped at once, or learns nothing, and steps are as large as the weights."""
    curve = evidence.curve("loss")
    if len(curve) < 2:
        return None
    grown = growth_before_failure(curve)
    if grown is not None:
        last, times = grown
        return _too_high(
            evidence,
            f"the loss has grown from {shown(float(curve.values[0]))} to {shown(last)} and then left the numbers; "
            "steps are larger than what the loss can be followed by",
            {"loss_first": float(curve.values[0]), "loss_last_finite": last, "growth": times},
            "critical",
        )
    ratios = step_sizes(evidence)
    if len(ratios) and ratios[0] > _LARGE_RATIO and not np.isfinite(curve.values[1:3]).any():
        said = f"one step of {shown(float(ratios[0]))} times the weights, and the loss was finite no more"
        return _too_high(evidence, said, {"update_ratio": float(ratios[0])}, "critical")
    # a tenth of the points is left out of every judgement but one in ten: what is found has then been there for a while
    of = course(curve, len(curve) // 10 * 10) if len(curve) > 20 else course(curve)
    if of is None or is_maximized(evidence):
        return None
    if not _is_whole(of):
        return _too_high_in_logs(evidence, of)
    early = _early_ratio(evidence)
    jump = _early_jump(curve, of)
    stuck = of.last_step >= _EARLY_STEPS and of.points >= 50 and hardly_falls(of, 0.1) and not _falls_late(of)
    facts: dict[str, float | int | str] = {"loss_first": of.start, "loss_late": of.late, "jump": jump}
    if early is not None:
        growth, expected = _early_growth(evidence)
        forgets = (early > 0.9 and growth > expected) or early > 5.0
        facts |= {"update_ratio": early, "weight_growth": growth}
        if of.points >= 20 and ((early > _LARGE_RATIO and jump > 2.0) or (forgets and jump > 1.15)):
            said = f"the loss rose to {shown(jump)} times its start within {_EARLY_STEPS} steps"
        elif stuck and ((early > _LARGE_RATIO and growth > 1.5) or _has_blown_up(evidence)):
            said = f"the loss stands at {shown(of.late)} (it began at {shown(of.start)})"
        else:
            return None
        if early > _LARGE_RATIO:
            said += f", and a step is {shown(early)} of the weights (healthy: 1e-4 to 1e-1 at first)"
        else:
            said += ", and the weights are more than four times as large as they were drawn"
        return _too_high(evidence, said, facts, "critical" if stuck else "warning")
    if stuck and of.late > 0 and (jump > 10.0 or (jump > 2.0 and _is_large_rate(evidence))):
        said = f"the loss rose to {shown(jump)} times its start and stands at {shown(of.late)}"
        return _too_high(evidence, f"{said} (it began at {shown(of.start)})", facts, "critical")
    return None


def _too_high_in_logs(evidence: Evidence, of: Course) -> Finding | None:
    """Where the first steps were not seen: a loss at chance, at a rate at which no weight keeps its size."""
    if len(update_ratios(evidence)) or not is_long_enough(evidence, of, 8) or not _is_large_rate(evidence):
        return None
    at_chance = stands_at_chance(evidence, of.late)
    if of.trend < -2.0 or at_chance is False:
        return None
    if at_chance is None and of.drop > max(4.0 * of.drop_noise, 0.1 * abs(of.start)):
        return None
    said = f"the loss stands at {shown(of.late)} at a rate of {shown(highest_rate(evidence) or math.nan)}"
    return _too_high(evidence, said, {"loss_first": of.start, "loss_late": of.late}, "warning")


def _is_large_rate(evidence: Evidence) -> bool:
    """Whether every weight is moved by 0.05 or more in a step, which is the usual size of a weight."""
    rate = highest_rate(evidence)
    return rate is not None and is_adaptive(evidence) and rate >= 0.05


def growth_before_failure(curve: Curve) -> tuple[float, float] | None:
    """The last finite loss and how many times the start it is, where a loss grew until it was finite no more.

    A loss that fails from one step to the next has another reason (a logarithm of 0, a row that is not finite).
    """
    values = curve.values
    if np.isfinite(values[-1]) and abs(values[-1]) < 1e30:
        return None
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    usual = max(abs(float(finite[0])), 1e-12)
    last = float(np.abs(finite[-3:]).max())
    return (last, last / usual) if last > 20.0 * usual else None


def _is_whole(of: Course) -> bool:
    return of.first_step <= 1.0 and is_every_step(of)


def _early_ratio(evidence: Evidence) -> float | None:
    """The largest relative step of the first five looks that was not of a matrix that had been nil."""
    ratios = step_sizes(evidence)[:5]
    if len(ratios) < 3:
        return None
    # of a matrix that began as zeros steps 2, 3, 4 are 1, 1/2, 1/3 of it: the first one alone is of the others
    halving = ratios[1] > 0.7 and bool(np.all(np.diff(ratios[1:]) < 0)) and ratios[0] < 0.3 * ratios[1]
    return float(ratios[0] if halving else ratios[:3].max())


def _early_growth(evidence: Evidence) -> tuple[float, float]:
    """How many times larger the weights are within twenty steps, and how many times is more than healthy by then.

    At a rate a hundred times too high it is 2.6 or more after ten steps; the most that was seen to learn is 1.65.
    """
    norms = evidence.curve("weight_norm").finite()
    at = int(np.searchsorted(norms.steps, 20.0, side="right")) - 1
    if at < 2 or norms.values[0] <= 0.0:
        return math.inf, math.inf
    return float(norms.values[at] / norms.values[0]), 1.0 + min(1.2, 0.12 * float(norms.steps[at] - norms.steps[0]))


def _has_blown_up(evidence: Evidence) -> bool:
    """Whether the weights are four times what they were, and steps were a fifth of them at some time."""
    norms = evidence.curve("weight_norm").finite().values
    ratios = step_sizes(evidence)
    return len(norms) > 2 and norms[0] > 0.0 and bool(norms.max() > 4.0 * norms[0]) and bool(ratios.max() > 0.2)


def _early_jump(curve: Curve, of: Course) -> float:
    """The highest median of three of the first fifty losses, over the first loss (where that is above 0)."""
    values = curve.values[:_EARLY_STEPS]
    values = values[np.isfinite(values)]
    if len(values) < 5 or of.start <= 0.0:
        return 0.0
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    return float(middle.max()) / of.start


def _falls_late(of: Course) -> bool:
    half = of.blocks[len(of.blocks) // 2 :]
    return len(half) >= 4 and mann_kendall_z(half.tolist()) < -2.0


def _too_high(evidence: Evidence, said: str, facts: dict[str, float | int | str], severity: str) -> Finding:
    rate = evidence.settings.learning_rate or highest_rate(evidence)
    ratios = step_sizes(evidence)
    # the first step is that of the weights as they were drawn; what comes after has been driven by the blow-up
    factor = float(np.clip(ratios[0] / _GOOD_RATIO, 10.0, 1e4)) if len(ratios) else 10.0
    remedy = "lower the learning rate by ten"
    if rate and math.isfinite(rate):
        facts["learning_rate"] = rate
        remedy = evidence.settings.override("learning_rate", one_digit(rate / factor))
    return Finding(
        "learning-rate-too-high",
        "critical" if severity == "critical" else "warning",
        f"The learning rate is too high: {said}.",
        facts,
        remedy,
    )


def rate_too_low(evidence: Evidence) -> Finding | None:
    """The loss hardly falls, and the weights cannot get anywhere in what is planned."""
    of = loss_course(evidence)
    total = planned(evidence)
    if of is None or total is None or (of.points < 24 and evidence.origin == "run"):
        return None
    moved = movement(evidence)
    share = drop_at_end(of, total) / abs(of.start) if of.start else 0.0
    flat = of.drop + 2.0 * of.drop_noise < 0.06 * abs(of.start) and not falls(of)
    if moved is None:
        slow = not len(update_ratios(evidence)) and share < 0.03 and falls_steadily(of)
    elif moved < _SMALL_MOVEMENT:
        slow = share < 0.2 or not falls(of)
    else:
        at_chance = stands_at_chance(evidence, of.late) is True and share < 0.1
        slow = moved < MODEST_MOVEMENT and (flat or at_chance or _creeps(evidence, of, total))
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
    return float(np.median(of.blocks[:1]) - np.median(of.blocks[-2:])) - slope * remaining


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
        factor = float(np.clip(_GOOD_RATIO / ratio, 10.0, 1e4))
    rate = highest_rate(evidence)
    remedy = "raise the learning rate by ten"
    if rate:
        facts["learning_rate"] = rate
        remedy = evidence.settings.override("learning_rate", one_digit(rate * factor))
    return Finding("learning-rate-too-low", "warning", f"The learning rate is too low: {said}.", facts, remedy)


def one_digit(value: float) -> float:
    """The nearest number with one digit: nobody knows a rate better."""
    return float(f"{value:.0e}")


HARDLY_MOVES = (
    "not-learning",
    "plateau",
    "parameters-do-not-move",
    "labels-unrelated-to-input",
    "worse-than-empty-graph",
)
_BLOWS_UP = (
    "loss-not-finite",
    "loss-diverges",
    "loss-spike",
    "loss-oscillates",
    "not-learning",
    "plateau",
    "exploding-gradients",
    "vanishing-gradients",
    "dead-units",
    "saturated-units",
    "output-constant",
    "embeddings-collapsed",
    "parameters-do-not-move",
)

STEP_SIZE_RULES: tuple[Rule, ...] = (
    Rule(
        "learning-rate-too-high",
        Rank.STEP_SIZE,
        ("curves.loss",),
        rate_too_high,
        "structural",
        (*_BLOWS_UP, "overfitting", "labels-unrelated-to-input"),
        "The loss blows up, jumps or stands, and a step is as large as the weights.",
    ),
    Rule(
        "learning-rate-too-low",
        Rank.STEP_SIZE,
        ("curves.loss",),
        rate_too_low,
        "curve",
        HARDLY_MOVES,
        "The loss hardly falls, and the weights hardly move in all that is planned.",
    ),
)
