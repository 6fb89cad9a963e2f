"""The rule about overfitting: validation has a minimum behind it while training still improves."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import begins_at_start, course, is_long_enough, objective_changes
from stablelit.doctor.rules._words import shown
from stablelit.findings import Finding
from stablelit.functional.trends import mann_kendall_z, noise_of

_LEAST_SINCE = 6
# what is lost after the minimum, as a share of what was gained before it
_MUCH = 0.75


def overfitting(evidence: Evidence) -> Finding | None:
    r"""Validation rises after its minimum by more than its noise, and training still falls.

    At least six evaluations since the minimum, Mann-Kendall z above 2.5 over these (or all of them a fifth higher), a
    rise of more than three times the noise (that of the differences of neighbouring evaluations). A warning where three
    quarters of what was gained are lost again, else information: a run that keeps its best checkpoint
    loses nothing.
    """
    curve = evidence.curve("val_loss").finite()
    values = curve.values
    if len(values) < _LEAST_SINCE + 2:
        return None
    lowest = int(np.argmin(values))
    since = values[lowest:]
    if len(since) <= _LEAST_SINCE:
        return None
    noise = max(noise_of(since), noise_of(values[: lowest + 1]) if lowest >= 6 else 0.0)
    now = float(np.median(since[-3:]))
    # the minimum of many is low by luck: the level about it counts
    around = values[max(0, lowest - 1) : lowest + 2]
    best = float(np.median(around)) if lowest else float(values[0])
    rise = now - best
    size = abs(float(values[lowest]))
    if rise < max(3.0 * noise, 0.02 * size) or not _training_falls(evidence, curve.steps[lowest]):
        return None
    # it rises still, or it has risen for good
    stays = float(since[2:].min()) > best + max(3.0 * noise, 0.2 * size) and rise > 6.0 * noise
    if not stays and mann_kendall_z(curve.tail(len(since)).blocks(12).tolist()) < 2.5:
        return None
    gained = max(0.0, _untrained(evidence, float(values[0])) - best)
    lost = rise / max(gained, 0.1 * size, 1e-12)
    step = int(curve.steps[lowest])
    # a rule is asked no more once it has found something: a note waits for the end, a warning might still come
    is_much = lost > _MUCH and rise > max(6.0 * noise, 0.25 * size) and not objective_changes(evidence)
    if not is_much and not evidence.ended:
        return None
    how = "most of what was gained" if is_much else "a part of what was gained"
    return Finding(
        "overfitting",
        "warning" if is_much else "info",
        f"The validation loss was lowest at step {step} ({shown(best)}) and is {shown(now)} now: {how} is lost while "
        "the training loss falls, and nothing has stopped the run.",
        {"best": best, "now": now, "best_step": step, "lost_share": lost, "noise": noise},
        f"stop at the minimum (EarlyStopping) or keep the checkpoint of step {step}; more data, weight decay, dropout",
    )


def _untrained(evidence: Evidence, first: float) -> float:
    """The level before training: the first evaluation comes after an epoch, and the first training loss before it."""
    training = course(evidence.curve("loss"))
    return max(first, training.start) if training is not None and begins_at_start(training) else first


def _training_falls(evidence: Evidence, step: float) -> bool:
    """Whether the training loss has fallen since the step of validation's minimum."""
    whole = course(evidence.curve("loss"))
    if whole is None or not is_long_enough(evidence, whole, points=8):
        return False
    values = evidence.curve("loss").finite()
    first = int(np.searchsorted(values.steps, step))
    since = values.values[first:]
    before = values.values[max(0, first - len(since)) : first + 1]
    if len(since) < 4:
        return False
    third = max(1, len(since) // 3)
    around = np.concatenate([before[-third:], since[:third]])
    return float(np.median(since[-third:])) < float(np.median(around))


OVERFITTING_RULES: tuple[Rule, ...] = (
    Rule(
        "overfitting",
        Rank.FIT,
        ("curves.loss", "curves.val_loss"),
        overfitting,
        "structural",
        (),
        "Validation has a minimum behind it, and training still falls.",
    ),
)
