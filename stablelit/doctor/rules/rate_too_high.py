"""The rule about a learning rate that is too high: the loss blows up, jumps or stands, and steps are large."""

from __future__ import annotations

import math

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rules._chance import stands_at_chance
from stablelit.doctor.rules._loss_course import (
    GOOD_RATIO,
    course,
    hardly_falls,
    highest_rate,
    is_adaptive,
    is_every_step,
    is_long_enough,
    is_maximized,
    step_sizes,
    update_ratios,
)
from stablelit.doctor.rules._words import one_digit, shown
from stablelit.findings import Finding, Severity
from stablelit.functional.curve_tests import Course
from stablelit.functional.trends import mann_kendall_z

# a first step of half the weights: nets of a few wide layers learn at up to 0.43 (measured), at a rate a hundred times
# too high it is 1.3 or more
_LARGE_RATIO = 0.5
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
    early = _early_ratio(evidence)
    if early is not None and early <= _LARGE_RATIO and not _has_blown_up(evidence):
        return None  # of nearly every run, and before anything that takes time
    # a tenth of the points is left out of every judgement but one in ten: what is found has then been there for a while
    of = course(curve, len(curve) // 10 * 10) if len(curve) > 20 else course(curve)
    if of is None or is_maximized(evidence):
        return None
    if not _is_whole(of):
        return _too_high_in_logs(evidence, of)
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


def _too_high(evidence: Evidence, said: str, facts: dict[str, float | int | str], severity: Severity) -> Finding:
    rate = evidence.settings.learning_rate or highest_rate(evidence)
    ratios = step_sizes(evidence)
    # the first step is that of the weights as they were drawn; what comes after has been driven by the blow-up
    factor = float(np.clip(ratios[0] / GOOD_RATIO, 10.0, 1e4)) if len(ratios) else 10.0
    remedy = "lower the learning rate by ten"
    if rate and math.isfinite(rate):
        facts["learning_rate"] = rate
        remedy = evidence.settings.override("learning_rate", one_digit(rate / factor))
    return Finding(
        "learning-rate-too-high",
        severity,
        f"The learning rate is too high: {said}.",
        facts,
        remedy,
    )
