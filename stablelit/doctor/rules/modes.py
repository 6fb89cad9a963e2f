"""Rules about training and evaluation mode."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.modes import BatchNormFact, ModeFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules.operations import dropout_in_validation
from stablelit.findings import Finding, Severity

_LEAST_UPDATES = 50
_MOST_DROPOUT = 0.9


def evaluating_in_training(evidence: Evidence) -> Finding | None:
    """Every trainable part is in evaluation mode while it trains.

    A part that is frozen, a batch norm that alone is in evaluation mode, and a backbone beside a head in training mode
    are meant so. Where no module computes anything else in evaluation mode, it is a note, unless the LightningModule
    itself is in it.
    """
    facts = _facts(evidence)
    if not facts.evaluating:
        return None
    severity: Severity = "critical"
    effect = "dropout is off, and batch norms use running statistics that nothing updates"
    if not facts.sensitive:
        severity = "warning" if facts.evaluating_root else "info"
        effect = "no module of it computes anything else then, but a function with training=self.training does"
    return Finding(
        "eval-mode-in-training",
        severity,
        f"Trainable parts, {', '.join(facts.evaluating[:2])} among them, are in evaluation mode in training "
        f"(expected training mode): {effect}.",
        {"modules": len(facts.evaluating), "first": facts.evaluating[0], "expected": 0},
        "call train() after whatever calls eval() (a validation by hand, from_pretrained, a probe); Lightning leaves "
        "modes as it finds them.",
    )


def training_in_validation(evidence: Evidence) -> Finding | None:
    """Modules are in training mode while validation runs; dropout alone may be meant so."""
    facts = _facts(evidence)
    if not facts.training_in_validation or facts.training_in_validation_looks < 1:
        return None
    whole = facts.training_in_validation_whole
    effect = "validation is noisy, and batch norms learn from it" if whole else "if that is meant, all is well"
    return Finding(
        "train-mode-in-validation",
        "warning" if whole else "info",
        f"{', '.join(facts.training_in_validation[:2])} and others are in training mode in validation (expected "
        f"evaluation mode): {effect}.",
        {"modules": len(facts.training_in_validation), "first": facts.training_in_validation[0], "expected": 0},
        "take out the train() that is called in or before validation; Lightning has called eval().",
    )


def statistics_off(evidence: Evidence) -> Finding | None:
    r"""Running statistics that hardly know the data, after many batches.

    With momentum m a share :math:`(1 - m)^n` of the initial values (mean 0, variance 1) is left after n batches. It is
    told where more than half is left of it, the end will leave a fifth of it (or, where no end is known, 2000 batches
    are over), and the batches are far from what is remembered; or where they are far though it should have gone.
    """
    facts = _facts(evidence)
    off = [(norm, left) for norm in facts.batch_norms if (left := _left(norm, evidence)) is not None]
    # a momentum that cannot get there is exact; else one norm may be odd, and most are asked
    if not off or (max(left for _, left in off) < 0.5 and 2 * len(off) <= len(facts.batch_norms)):
        return None
    norm, left = max(off, key=lambda pair: _apart(pair[0]))
    return Finding(
        "batch-norm-statistics-off",
        "warning",
        f"The running statistics of {norm.name} are not those of the batches after {norm.updates} updates with "
        f"momentum {norm.momentum:g}: variance {norm.variance_ratio:.2g} of theirs (expected 0.5 to 2), mean "
        f"{norm.mean_gap:.2g} standard deviations off (expected below 0.5); {left:.0%} of the initial values is left. "
        "Validation uses them.",
        {"variance_ratio": norm.variance_ratio, "mean_gap": norm.mean_gap, "initial_left": left, "expected": 1.0},
        "momentum=0.1 in the batch norms (torch's momentum is the share of the newest batch, 1 minus that of other "
        "frameworks); no buffer may be put back between batches.",
    )


def _facts(evidence: Evidence) -> ModeFacts:
    assert evidence.modes is not None
    return evidence.modes


def _apart(norm: BatchNormFact) -> float:
    """How far statistics are off, as a factor: 1 where they agree."""
    return max(norm.variance_ratio, 1.0 / max(norm.variance_ratio, 1e-12), math.exp(norm.mean_gap))


def _left(norm: BatchNormFact, evidence: Evidence) -> float | None:
    """The share of the initial values that is left, where a batch norm is off; None where it is not."""
    if norm.momentum is None or evidence.step < _LEAST_UPDATES:
        return None
    updates = max(norm.updates, evidence.step)
    left = (1.0 - norm.momentum) ** updates
    if norm.momentum < 1.0 and left > 0.5:
        planned = evidence.planned_steps
        at_end = (1.0 - norm.momentum) ** planned if planned else 0.0
        hopeless = at_end > 0.2 or (planned is None and updates > 2000)
        return left if hopeless and _apart(norm) > 1.8 else None
    return left if left < 0.01 and _apart(norm) > 6.0 else None


def training_or_dropout_in_validation(evidence: Evidence) -> Finding | None:
    """A function has no mode of its own: only the operations show that its dropout is active."""
    return training_in_validation(evidence) or dropout_in_validation(evidence)


def dropout_too_strong(evidence: Evidence) -> Finding | None:
    """A rate above 0.9, which nobody asks for: it was the probability to keep, and little is learned."""
    facts = _facts(evidence)
    if facts.dropout <= _MOST_DROPOUT:
        return None
    validation = evidence.curve("val_loss").finite()
    # the training loss begins high by what dropout adds, and falls as the weights learn to say nothing
    judged = validation if len(validation) >= 2 else evidence.curve("loss").finite()
    if judged is not validation and len(judged) < 25:
        return None
    which = "validation loss" if judged is validation else "loss"
    first, late = (float(value) for value in judged.blocks(8)[[0, -1]])
    if first > 0.0 and late < (0.8 if judged is validation else 0.5) * first:
        return None
    return Finding(
        "dropout-too-strong",
        "warning",
        f"{facts.dropout_name} drops {facts.dropout:.0%} of what it is given (expected: at most {_MOST_DROPOUT:.0%}), "
        f"and the {which} went from {first:.3g} to {late:.3g}: is it the probability to keep?",
        {"dropout": facts.dropout, "expected": _MOST_DROPOUT, "loss_first": first, "loss_late": late},
        evidence.settings.override("dropout", round(1.0 - facts.dropout, 3)),
    )


_NEEDS = ("modes",)
MODE_RULES: tuple[Rule, ...] = (
    Rule(
        "eval-mode-in-training",
        Rank.STRUCTURE,
        _NEEDS,
        evaluating_in_training,
        explains=("batch-norm-statistics-off",),
        about="a part that is trained is in evaluation mode",
    ),
    Rule(
        "train-mode-in-validation",
        Rank.STRUCTURE,
        _NEEDS,
        training_or_dropout_in_validation,
        explains=("overfitting",),
        about="a module is in training mode in validation, or a functional dropout is active",
    ),
    Rule(
        "dropout-too-strong",
        Rank.SETTINGS,
        ("modes", "curves.loss"),
        dropout_too_strong,
        "curve",
        explains=("*",),
        about="a dropout of more than 0.9, and a loss that hardly falls",
    ),
    Rule(
        "batch-norm-statistics-off",
        Rank.SETTINGS,
        _NEEDS,
        statistics_off,
        "curve",
        explains=("overfitting",),
        about="running statistics far from those of batches",
    ),
)
