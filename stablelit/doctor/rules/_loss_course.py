"""What several rules ask of a run's curves: how the loss has gone, how large the steps were, what is still to come."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.functional.curve_tests import Course, Floats, course_of
from stablelit.functional.medians import median_of, quantile_of

# below this many steps, and this share of the run, no curve says anything
_LEAST_STEPS, _LEAST_SHARE = 50, 0.02
_MOVES_THE_OBJECTIVE = re.compile(
    r"(weight|beta|lambda|alpha|gamma|coef|anneal|temperature|difficulty|curriculum|mask_rate|sigma|margin|free_bits)"
)
_NO_OBJECTIVE = re.compile(r"norm|decay|lr|rate_of|grad|loss|acc|f1|std")
# of the first step, at rates that learn well: 0.005 to 0.1 with SGD and with Adam
GOOD_RATIO = 0.02
# how far weights can move in a whole run, relative to their size: with more than this, steps are not too small
MODEST_MOVEMENT = 0.15
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "adadelta", "lion", "lamb", "adafactor", "novograd", "prodigy", "sophia")


def course(curve: Curve, points: int | None = None) -> Course | None:
    """The course of the finite values of a curve; None where there is none.

    Args:
        curve: that may grow: what was computed for as many points is kept.
        points: only the first of these.
    """
    length = len(curve) if points is None else min(points, len(curve))
    return _course(curve, length, float(curve.steps[length - 1])) if length else None


@lru_cache(maxsize=16)
def _course(curve: Curve, length: int, last_step: float) -> Course | None:
    steps, values = curve.steps[:length], curve.values[:length]
    keep = np.isfinite(values)
    if not keep.all():
        steps, values = steps[keep], values[keep]
    return course_of(steps, values) if len(values) else None


def loss_course(evidence: Evidence) -> Course | None:
    """The course of the training loss where it can be judged: from its beginning, and for long enough."""
    found = course(evidence.curve("loss"))
    if found is None or not begins_at_start(found) or not is_long_enough(evidence, found) or is_maximized(evidence):
        return None
    return found


def is_maximized(evidence: Evidence) -> bool:
    """Whether optimizers were told to make the loss large: `gradient-ascent` says where that is a mistake."""
    return evidence.parameters is not None and evidence.parameters.maximized_share > 0.5


def is_long_enough(evidence: Evidence, of: Course, points: int = 8) -> bool:
    """Whether a curve may be judged at all: at least 50 steps, 2 % of the run, and so many points."""
    done = max(float(evidence.step), of.last_step)
    return of.points >= points and done >= max(_LEAST_STEPS, _LEAST_SHARE * (evidence.planned_steps or 0))


def after_run_in(evidence: Evidence, steps: int) -> bool:
    """Whether so many steps, and two in a hundred of the run, have been made."""
    return evidence.step >= max(steps, _LEAST_SHARE * (evidence.planned_steps or 0))


def begins_at_start(of: Course) -> bool:
    """Whether the first point is of the run's beginning, and not of where it was taken up again."""
    spacing = (of.last_step - of.first_step) / max(1, of.points - 1)
    return of.first_step <= 2.0 * spacing + 1.0


def is_every_step(of: Course) -> bool:
    """Whether (nearly) every step has its point, so that the first one is what an untrained model loses."""
    return (of.last_step - of.first_step) <= 1.5 * (of.points - 1)


def planned(evidence: Evidence) -> float | None:
    """Optimizer steps of the whole run, by plan or because it is over; None where it has no known end."""
    if evidence.planned_steps:
        return float(evidence.planned_steps)
    if not evidence.ended and evidence.origin == "run":
        return None
    return max((float(curve.steps[-1]) + 1 for curve in evidence.curves.values() if len(curve)), default=None)


def falls(of: Course) -> bool:
    """Whether the loss has fallen for sure: by rank, or from its start by more than four standard errors."""
    return of.trend < -3.0 or of.drop > max(4.0 * of.drop_noise, 0.05 * abs(of.start))


def hardly_falls(of: Course, share: float) -> bool:
    """Whether what was learned is not shown to be more than this share of the start."""
    return of.drop - 2.0 * of.drop_noise < share * abs(of.start)


def update_ratios(evidence: Evidence) -> Floats:
    """The relative sizes of steps that are finite and not nil."""
    return _above_nil(evidence.curve("update_ratio"))


def step_sizes(evidence: Evidence) -> Floats:
    """Relative sizes of steps as `update_ratios`, of which those of weights that began next to nil are not large."""
    curve = evidence.curve("relative_step")
    return _above_nil(curve) if len(curve) else update_ratios(evidence)


def _above_nil(curve: Curve) -> Floats:
    values = curve.values
    return values[np.isfinite(values) & (values > 0.0)]


def movement(evidence: Evidence) -> float | None:
    r"""How far the weights can move in the whole run relative to their size, :math:`T \cdot q_{90}(|\Delta w| / |w|)`.

    Where steps were not looked at and the optimizer takes steps of the size of its rate (Adam), the rate over 0.05
    stands for the ratio. None where neither is known, or where the rate is still being warmed up.
    """
    total = planned(evidence)
    if total is None or is_warming_up(evidence):
        return None
    ratios = update_ratios(evidence)
    if len(ratios) >= 5:
        return total * quantile_of(ratios, 0.9)
    rate = highest_rate(evidence)
    if rate is None or not is_adaptive(evidence):
        return None
    return total * rate / 0.05


def highest_rate(evidence: Evidence) -> float | None:
    """The highest learning rate so far; None where none is known."""
    rates = evidence.curve("lr").finite()
    if len(rates):
        return float(rates.values.max())
    named = number_named(evidence.settings, ("learning_rate", "lr", "base_lr", "max_lr"))
    return evidence.settings.learning_rate or (named[1] if named else None)


def is_warming_up(evidence: Evidence) -> bool:
    """Whether the rate is at its highest now, and was a tenth lower not long ago."""
    rates = evidence.curve("lr").finite()
    if len(rates) < 3:
        return False
    now = float(rates.values[-1])
    return now >= float(rates.values.max()) and float(rates.values[len(rates) * 3 // 4]) < 0.95 * now


def rate_rises(evidence: Evidence) -> bool:
    """Whether a warm-up goes on: what does not move yet may do so soon."""
    rates = evidence.curve("lr").values
    if len(rates) < 2 or rates[-1] <= 1.01 * rates.min():
        return False
    return bool(rates[-1] > 1.01 * median_of(rates))


def is_adaptive(evidence: Evidence) -> bool:
    """Whether every optimizer takes steps that do not depend on the scale of the gradient."""
    kinds = [group.kind.lower() for group in evidence.settings.optimizers]
    if not kinds and evidence.settings.hyperparameters:
        held = evidence.settings.hyperparameters
        kinds = [
            str(v).lower() for k, v in held.items() if k.lower().rpartition(".")[2] in ("optimizer", "optim", "opt")
        ]
    return bool(kinds) and all(any(name in kind for name in _ADAPTIVE) for kind in kinds)


def objective_changes(evidence: Evidence) -> bool:
    """Whether something that is logged and looks like a part of the objective has changed: a weight, a difficulty."""
    for name, curve in evidence.curves.items():
        leaf = name.removeprefix("logged/").lower()
        if leaf == name or not _MOVES_THE_OBJECTIVE.search(leaf) or _NO_OBJECTIVE.search(leaf):
            continue
        values = curve.finite().values
        if len(values) > 1 and np.ptp(values) > 0.01 * np.abs(values).max():
            return True
    return False
