"""Rules about validation that is another task than training, and about training rows that are few."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.batches import LeafFacts
from stablelit.doctor.levels import chance_of_other_rows, loss_scale
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import whole_term
from stablelit.doctor.rules.overfitting import overfitting
from stablelit.findings import Finding
from stablelit.functional.medians import median_of

_MOST_FEATURES = 64
# standard errors of a mean, and standard deviations of a feature: what sets features apart, and what says "the same"
_APART_ERRORS, _APART, _ALIKE_ERRORS = 8.0, 0.5, 4.0
# logarithm of a ratio of spreads; two hundred rows know one to 0.05
_OTHER_SPREAD = 0.4
# of the chance level: rows that were not seen before are predicted this much better, those of validation no better
_KNOWS, _KNOWS_NOTHING = 0.75, 1.0
_FEW_DIFFERENT, _TWINS = 0.5, 0.8


def features_in_another_order(evidence: Evidence) -> Finding | None:
    """Features of validation are those of training in another order, by their means and spreads."""
    facts = evidence.batches
    if facts is None or not facts.validation_looks:
        return None
    for leaf in facts.of_role("input"):
        other = facts.validation.get(leaf.name)
        if other is None or not leaf.drift < 10.0 or leaf.rows < 64 or other.rows < 64:
            continue
        moved = _moved_features(leaf, other)
        if moved:
            return Finding(
                "validation-input-differs",
                "critical",
                f"Features of {leaf.name} come in another order in validation: {len(moved)} of {len(leaf.mean)} have "
                f"the mean and the spread of another one in training (expected: their own), {moved[0][0]} those of "
                f"{moved[0][1]}.",
                {"moved": len(moved), "moved_expected": 0, "features": len(leaf.mean), "first": moved[0][0]},
                "Give validation the columns (channels) in the order of training: one list of names for both.",
            )
    return None


def _moved_features(training: LeafFacts, validation: LeafFacts) -> list[tuple[int, int]]:
    """Pairs of a feature of validation and the one of training that it is, where these differ; empty without proof."""
    if not 2 <= len(training.mean) == len(validation.mean) <= _MOST_FEATURES:
        return []
    moments = (training.mean, training.std, validation.mean, validation.std)
    return _moved(*map(tuple, moments), min(training.rows, 1500), min(validation.rows, 1500))


@lru_cache(maxsize=8)
def _moved(
    means: tuple[float, ...],
    stds: tuple[float, ...],
    other_means: tuple[float, ...],
    other_stds: tuple[float, ...],
    n: int,
    n_other: int,
) -> list[tuple[int, int]]:
    """After the first looks the moments stay what they are."""
    mean, std, other_mean, other_std = map(np.array, (means, stds, other_means, other_stds))
    # rows count once, however many positions they have
    error_of_unit = math.sqrt(0.5 / n + 0.5 / n_other)
    own_scale = np.sqrt(std**2 + other_std**2) + 1e-12
    own_apart = np.abs(other_mean - mean)
    own_spread = np.abs(np.log((other_std + 1e-12) / (std + 1e-12)))
    elsewhere = (own_apart > _APART_ERRORS * error_of_unit * own_scale) & (own_apart > _APART * (std + 1e-12))
    wrong = elsewhere | (own_spread > _OTHER_SPREAD)
    if wrong.sum() < 2:
        return []
    # (from validation, from training)
    scale = np.sqrt(std[None] ** 2 + other_std[:, None] ** 2) + 1e-12
    errors = np.abs(other_mean[:, None] - mean[None]) / (scale * error_of_unit)
    spreads = np.abs(np.log((other_std[:, None] + 1e-12) / (std[None] + 1e-12)))
    alike = (errors < _ALIKE_ERRORS) & (spreads < 0.5 * _OTHER_SPREAD)
    # every feature is one of training, and each of those that moved is exactly one
    if not alike.any(1).all():
        return []
    moved = [(int(i), int(np.argmin(np.where(alike[i], errors[i], np.inf)))) for i in np.flatnonzero(wrong)]
    sources = {of for _, of in moved}
    return moved if sources == {i for i, _ in moved} else []


def _validation_is_another_task(evidence: Evidence) -> Finding | None:
    """Rows of training are predicted before they were ever trained on, and those of validation never."""
    found, per_epoch = whole_term(evidence), evidence.settings.steps_per_epoch
    validation = evidence.curve("val_loss").finite().since(1)
    if found is None or evidence.operations is None or evidence.batches is None or not per_epoch or per_epoch < 16:
        return None
    term, level = found
    rows = evidence.batches.rows
    if term.weighted or not term.target_leaf or term.kind == "gaussian_nll" or level.value <= 0:
        return None
    if (
        evidence.settings.overfit_batches
        or rows.masked
        or rows.training_twins > 0.1 * max(rows.training, 1)
        or len(validation) < 4
    ):
        return None
    scale = loss_scale(evidence.operations)
    loss = evidence.curve("loss").finite()
    first = loss.values[(loss.steps < per_epoch) & (loss.steps >= 0.6 * per_epoch)] / scale
    if len(first) < 6 or not math.isfinite(scale):
        return None
    middle = median_of(first)
    fresh = middle + 2.5 * float(first.std()) / math.sqrt(len(first))
    best = float(validation.values.min()) / scale
    allowed = 1.1 if term.kind == "mse" else _KNOWS_NOTHING
    chance = chance_of_other_rows(term, evidence.batches) or level.value
    if fresh > _KNOWS * level.value or best < allowed * chance:
        return None
    return Finding(
        "validation-is-another-task",
        "critical",
        f"Rows of training were predicted at a loss of {middle:.3g} in the first epoch, before they "
        f"had been trained on; those of validation never below {best:.3g} (chance: {chance:.3g}): what is learnt "
        "holds for new rows, and not for those of validation.",
        {"first_epoch": middle, "best_validation_loss": best, "chance": chance},
        "Compare a row of validation with one of training: the coding of its labels, the order of its columns or "
        "channels, its preprocessing, what training_step alone does to a batch.",
    )


def _few_rows(evidence: Evidence) -> Finding | None:
    """The data set returns few different rows, over and over, and they are learnt by heart."""
    facts = evidence.batches
    if facts is None or evidence.settings.overfit_batches or facts.edges is not None:
        return None
    rows = facts.rows
    if rows.masked or rows.training < 200 or rows.training_distinct > _FEW_DIFFERENT * rows.training:
        return None
    # draws with replacement, as many as there are rows, leave a third of them without a twin
    if rows.training_twins < _TWINS * rows.training or rows.validation < 16:
        return None
    if overfitting(evidence) is None and not _never_better(evidence):
        return None
    return Finding(
        "few-different-rows",
        "critical",
        f"Of {rows.training} rows of the first epoch of training {rows.training_distinct} are different (expected: "
        "nearly all), and validation gets worse.",
        {"rows": rows.training, "different": rows.training_distinct, "expected": rows.training},
        "Look at what __getitem__ does with its index (a modulo, a wrong length, a cache), and at what repeats rows.",
    )


def _never_better(evidence: Evidence) -> bool:
    values, loss = evidence.curve("val_loss").finite().since(1).values, evidence.curve("loss").finite().values
    return len(values) >= 4 and len(loss) >= 50 and float(values[-1]) > 2.0 * abs(median_of(loss[-16:]))


def _target_constant(evidence: Evidence) -> Finding | None:
    """A number to predict that never varies in training, and does in validation."""
    facts, operations = evidence.batches, evidence.operations
    if facts is None or operations is None:
        return None
    for leaf in facts.of_role("target"):
        other = facts.validation.get(leaf.name)
        if leaf.kind != "float" or not leaf.std or any(leaf.std) or leaf.looks < 5 or leaf.rows < 128:
            continue
        # as rare as this in training, a value of its own would not be in a look of validation
        if other is None or not other.std or max(other.std) < 0.1 * max(abs(leaf.mean[0]), 1e-12):
            continue
        return Finding(
            "target-constant",
            "critical",
            f"{leaf.name} is {leaf.mean[0]:.3g} in all {leaf.rows} rows of training seen so far; in validation it "
            f"varies by {max(other.std):.3g} (expected: as much in training).",
            {"rows": leaf.rows, "spread": 0.0, "spread_expected": max(other.std)},
            f"Look at what makes {leaf.name} in training: a filter, a fill value, a column read wrongly.",
        )
    return None


UNLIKE_RULES: tuple[Rule, ...] = (
    Rule(
        "target-constant",
        Rank.DATA,
        ("batches", "operations"),
        _target_constant,
        explains=("*", "overfitting", "labels-unrelated-to-input"),
        about="a target that never varies in training, and does in validation",
    ),
    Rule(
        "few-different-rows",
        Rank.DATA,
        ("batches", "curves.val_loss"),
        _few_rows,
        "curve",
        explains=("overfitting", "labels-unrelated-to-input", "validation-rows-in-training"),
        about="a data set that returns few different rows, learnt by heart",
    ),
    Rule(
        "validation-is-another-task",
        Rank.FIT,
        ("operations", "batches", "curves.loss", "curves.val_loss"),
        _validation_is_another_task,
        "curve",
        explains=("labels-unrelated-to-input", "overfitting"),
        about="new rows of training are predicted, those of validation never",
    ),
)
