"""What several rules ask of a loss's terms, and whether it stands where nothing is known but how often targets come."""

from __future__ import annotations

import math

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.hyperparameters import number_named
from stablelit.doctor.evidence.operations import LossTerm
from stablelit.doctor.levels import Level, chance_level, chance_of_other_rows, loss_scale
from stablelit.functional.curve_tests import Course
from stablelit.functional.medians import median_of
from stablelit.functional.trends import mann_kendall_z

_CLASSES = ("num_classes", "n_classes", "classes", "num_labels", "vocab_size", "n_vocab")


def loss_terms(evidence: Evidence) -> list[LossTerm]:
    """The comparisons with a target that the loss is made of; none where nobody saw it being made."""
    return evidence.operations.terms if evidence.operations else []


def whole_term(evidence: Evidence) -> tuple[LossTerm, Level] | None:
    """The one term that is the loss, with its chance level."""
    whole = evidence.operations.whole if evidence.operations else None
    level = chance_level(whole, evidence.batches) if whole is not None else None
    return (whole, level) if whole is not None and level is not None else None


def loss_now(evidence: Evidence) -> float | None:
    """The median of the last sixth of the loss (8 points or more) in units of its one term; None: it has others too."""
    operations, loss = evidence.operations, evidence.curve("loss")
    if operations is None or len(loss) < 8:
        return None
    scale = loss_scale(operations)
    if not math.isfinite(scale) or scale == 0:
        return None
    values = loss.values[-max(8, len(loss) // 6) :]
    return median_of(values) / scale if bool(np.isfinite(values).all()) else math.inf


def chance_levels(evidence: Evidence) -> tuple[float, ...]:
    r"""Losses of a model that ignores its input; empty where the target is not known.

    That of one that knows how often each target comes, and that of one that does not (:math:`\ln C`). Of logs, where
    nobody saw the loss being made, the :math:`\ln C` of a hyperparameter that says how many classes there are.
    """
    operations = evidence.operations
    if operations is not None:
        found, scale = whole_term(evidence), loss_scale(operations)
        if found is None or not math.isfinite(scale):
            return ()
        _, level = found
        return tuple(value * scale for value in (level.value, level.uniform) if value * scale > 0.0)
    named = number_named(evidence.settings, _CLASSES)
    return (math.log(named[1]),) if named is not None and named[1] >= 2 else ()


def stands_at_chance(evidence: Evidence, level: float) -> bool | None:
    """Whether a loss is between the lowest level of chance and a third above the highest.

    None where no level is known, or where it is above.
    A variance is known from a few hundred values to ten per cent, an entropy to three.
    """
    levels = chance_levels(evidence)
    if not levels:
        return None
    whole = evidence.operations.whole if evidence.operations else None
    tolerance = 0.1 if whole is not None and whole.kind in ("mse", "gaussian_nll") else 0.03
    if level < (1.0 - tolerance) * min(levels):
        return False
    # a model as it was drawn is somewhat worse than one that knows the mean
    return True if level <= 1.3 * max(levels) else None


def no_better_than_chance(evidence: Evidence, of: Course, planned: float) -> bool:
    """Whether classes are known no better than by how often they come, in training and validation, in half of a run.

    That a loss has fallen to this level from above it is no learning. How often classes come has to be known well.
    """
    found = whole_term(evidence)
    labels = evidence.batches.labels if evidence.batches else None
    if evidence.operations is None or found is None or len(of.blocks) < 6:
        return False
    whole, level = found
    scale = loss_scale(evidence.operations)
    validation = evidence.curve("val_loss").finite().since(1).values
    if whole.weighted or whole.kind not in ("cross_entropy", "nll"):
        return False
    if not math.isfinite(scale) or scale <= 0 or len(validation) < 4:
        return False
    if labels is not None and labels.leaf == whole.target_leaf and sum(labels.counts.values()) >= 200:
        known = level.value
    elif math.isfinite(whole.target_entropy):
        known = whole.target_entropy
    else:
        return False
    late = of.late / scale
    if of.last_step < 0.6 * planned or not 0.985 * known <= late <= 1.1 * level.uniform:
        return False
    chance = chance_of_other_rows(whole, evidence.batches) or known
    rising = evidence.curve("lr").finite().values
    if len(rising) > 2 and rising[-1] > 1.01 * rising[len(rising) // 2]:
        return False
    falling = mann_kendall_z(of.blocks[len(of.blocks) // 2 :].tolist())
    return float(validation.min()) >= 0.99 * chance * scale and falling > -2.0
