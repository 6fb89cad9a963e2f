"""Rules about where the loss stands beside chance."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.operations import OperationFacts
from stablelit.doctor.levels import chance_of_other_rows, initial_loss_over_chance, loss_scale
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import loss_now, whole_term
from stablelit.doctor.rules._loss_course import after_run_in
from stablelit.findings import Finding
from stablelit.functional.medians import median_of

_FAR_ABOVE = 5.0
_FAR_ABOVE_SQUARES = 300.0
_MEMORY_STEPS = 100
# share of the chance level by which a validation loss may be off by chance
_OF_NOISE = 0.005


def _initial_loss(evidence: Evidence) -> Finding | None:
    """The first loss is many times chance, and it is still above it, or above ten times it for squares."""
    operations = evidence.operations
    # a run that goes on from a checkpoint has no first loss
    if operations is None or operations.step > 1 or not after_run_in(evidence, _MEMORY_STEPS):
        return None
    found = whole_term(evidence)
    if found is None:
        return None
    term, level = found
    ratio = initial_loss_over_chance(term, evidence.batches)
    squares = term.kind == "mse"
    far_above = _FAR_ABOVE_SQUARES if squares else _FAR_ABOVE
    if ratio is None or ratio < far_above:
        return None
    now = loss_now(evidence)
    if now is None:
        return None
    goal = level.uniform * (10.0 if squares else 1.0)
    if now < goal or _will_soon_be_at(evidence, operations, now, goal):
        return None
    return Finding(
        "initial-loss-far-from-chance",
        "warning",
        f"The loss began at {term.value:.4g}, {ratio:.3g} times its chance level ({level.formula}), and is at "
        f"{now:.4g} after {evidence.step} steps: outputs of the untrained network are far too large.",
        {"initial_loss": term.value, "chance": level.uniform, "ratio": ratio, "ratio_expected_below": far_above},
        "Initialise the weights on a smaller scale (torch's default is 1/sqrt(inputs) per weight), the last layer's "
        "first of all.",
    )


def _will_soon_be_at(evidence: Evidence, operations: OperationFacts, now: float, goal: float) -> bool:
    """Whether the loss, falling by the same factor in each step as in the second half, is there in half of the rest.

    ``t = ln(L / goal) / r`` with ``r = ln(L_half / L) / (n / 2)``.
    """
    values = evidence.curve("loss").values
    n = len(values)
    half = median_of(values[n // 2 - n // 12 : n // 2 + n // 12 + 1]) / loss_scale(operations)
    if not 0 < now < half < math.inf:
        return False
    rate = math.log(half / now) / (0.5 * n)
    rest = max((evidence.planned_steps or 2 * evidence.step) - evidence.step, 0)
    return math.log(now / goal) / rate < 0.5 * rest


def _labels_unrelated(evidence: Evidence) -> Finding | None:
    """Training is learnt by heart while validation was never better than knowing no input."""
    found, now = whole_term(evidence), loss_now(evidence)
    validation = evidence.curve("val_loss").finite()
    if found is None or now is None or evidence.operations is None or not after_run_in(evidence, _MEMORY_STEPS):
        return None
    term, level = found
    if term.weighted or not term.target_leaf or term.kind not in ("cross_entropy", "nll", "bce", "bce_with_logits"):
        return None
    scale = loss_scale(evidence.operations)
    values = validation.since(1).values / scale
    if len(values) < 4 or level.value <= 0 or now > level.value:
        return None
    best, last = float(values.min()), float(values[-1])
    # classes may be as frequent in validation while they are not in training
    chance = chance_of_other_rows(term, evidence.batches) or level.value
    # what is learnt helps validation too, unless it was learnt by heart
    if best < (1 - _OF_NOISE) * chance or last < (1 + _OF_NOISE) * chance:
        return None
    if last - now < 4 * _OF_NOISE * level.value:
        return None
    return Finding(
        "labels-unrelated-to-input",
        "warning",
        f"In validation the loss is {last:.3g} and was never below {best:.3g} (chance: {chance:.3g}), while in "
        f"training it went down to {now:.3g}: what was learnt says nothing about new samples.",
        {"best_validation_loss": best, "validation_loss": last, "chance": chance, "training_loss": now},
        "Check that each label still belongs to its row: a shuffle, sort, filter or join that moved one and not the "
        "other; and that validation has the labels, columns and preprocessing of training.",
    )


CHANCE_RULES: tuple[Rule, ...] = (
    Rule(
        "initial-loss-far-from-chance",
        Rank.SCALE,
        ("operations", "curves.loss"),
        _initial_loss,
        explains=("learning-rate-too-high", "loss-diverges", "loss-oscillates", "saturated-units", "not-learning"),
        about="the first loss is many times chance, and stays above it",
    ),
    Rule(
        "labels-unrelated-to-input",
        Rank.FIT,
        ("operations", "batches", "curves.loss", "curves.val_loss"),
        _labels_unrelated,
        kind="curve",
        explains=("overfitting", "not-learning", "plateau"),
        about="training is learnt by heart, validation was never better than chance",
    ),
)
