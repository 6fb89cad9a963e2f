"""Rules about axes and targets: samples that are mixed, a softmax over them, answers that are in the input."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.wiring import WiringFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import loss_terms
from stablelit.doctor.rules._words import first_of
from stablelit.findings import Finding

_NO_FACTS = WiringFacts()
_LOG_MASS = 0.1
# weights that undo the frequencies are as uneven as these
_UNEVEN_WEIGHTS = 50.0


def _facts(evidence: Evidence) -> WiringFacts:
    return evidence.operations.wiring if evidence.operations else _NO_FACTS


def _samples_as_steps(evidence: Evidence) -> Finding | None:
    """A recurrence or an attention that takes samples for the steps of a sequence."""
    found = _facts(evidence).samples_as_steps
    if found is None:
        return None
    samples, steps = found.shape[found.axis], found.shape[1 - found.axis]
    return Finding(
        "samples-taken-for-steps",
        "critical",
        f"At {found.where} {found.operation} goes along the {samples} samples of the batch as if they were steps of a "
        f"sequence, and takes the {steps} steps for samples (its input has shape {found.shape}).",
        {"samples": samples, "steps": steps, "axis": found.axis, "line": found.where},
        f"batch_first=True in the layer called at {found.where}, or transpose(0, 1) before it.",
    )


def _wrong_softmax(evidence: Evidence) -> Finding | None:
    """A softmax over the samples of a batch, or over a single element."""
    found = _facts(evidence).softmax
    if found is None:
        return _of_one_class(evidence)
    length = found.shape[found.axis]
    what = "an axis of one element, so that it is always 1" if length == 1 else f"the {length} samples"
    remedy = (
        f"Take a sigmoid at {found.where}, or one output a class."
        if length == 1
        else f"dim=-1 (the axis of classes) in the {found.operation} at {found.where}."
    )
    return Finding(
        "softmax-over-wrong-axis",
        "critical",
        f"At {found.where} {found.operation} of a tensor of shape {found.shape} goes over {what} (expected: the axis "
        "of classes).",
        {"axis": found.axis, "length": length, "line": found.where},
        remedy,
    )


def _of_one_class(evidence: Evidence) -> Finding | None:
    """A cross entropy whose softmax goes over one class."""
    for term in loss_terms(evidence):
        if term.kind == "cross_entropy" and term.classes == 1 and len(term.prediction_shape) > 1:
            return Finding(
                "softmax-over-wrong-axis",
                "critical",
                f"At {term.where} cross_entropy is given logits of shape {term.prediction_shape}, of one class "
                "(expected: two or more along axis 1): it is 0 whatever is predicted.",
                {"axis": 1, "length": 1, "line": term.where},
                f"Use binary_cross_entropy_with_logits at {term.where}, or one output a class.",
            )
    return None


def _mixing_reshape(evidence: Evidence) -> Finding | None:
    """Logits reshaped where they should have been transposed."""
    found = _facts(evidence).reshape
    if found is None:
        return None
    return Finding(
        "reshape-mixes-positions",
        "critical",
        f"At {found.where} {found.operation} makes {found.result} of {found.shape}: a row of logits holds "
        f"{found.result[1]} positions of one class (expected: the {found.result[1]} classes of one position).",
        {"classes": found.result[1], "line": found.where},
        f"Move the axis of classes to the end at {found.where} first: movedim(1, -1).",
    )


def _visible_target(evidence: Evidence) -> Finding | None:
    """The token that is to be said is among those that are read."""
    found = _facts(evidence).visible_target
    if found is None:
        return None
    if found.offset == 1:
        what = f"the next token, and {found.seen_by} sees it: nothing hides what comes later"
        remedy = "Pass a causal mask (is_causal=True, attn_mask), or read in one direction only."
    else:
        which = "the very token that is read" if found.offset == 0 else "the token before it"
        what = f"{which} at the same position"
        remedy = f"Shift at {found.where}: input tokens[:, :-1], target tokens[:, 1:]."
    return Finding(
        "target-visible-in-input",
        "critical",
        f"At {found.where} {found.equal:.0%} of the targets are {what} (expected: a target that is not read).",
        {"share": found.equal, "offset": found.offset, "line": found.where},
        remedy,
    )


def _no_log_softmax(evidence: Evidence) -> Finding | None:
    """A negative log likelihood of what is no log probability: it falls without end, whatever is predicted."""
    for term in loss_terms(evidence):
        if term.kind != "nll" or not math.isfinite(term.log_mass) or term.log_mass < _LOG_MASS:
            continue
        if term.made_by in ("softmax", "log_softmax"):
            continue
        return Finding(
            "nll-without-log-softmax",
            "critical",
            f"At {term.where} nll_loss is given the output of {term.made_by or 'a layer'}, whose exponentials sum to "
            f"e^{term.log_mass:.3g} (expected: 1, those of log probabilities): it can fall for ever.",
            {"log_mass": term.log_mass, "log_mass_expected": 0.0, "line": term.where},
            f"Use cross_entropy at {term.where}, or log_softmax(dim=1) before it.",
        )
    return None


def _target_out_of_range(evidence: Evidence) -> Finding | None:
    """A binary target outside of 0..1, where :math:`y^2 > y`: the loss has no lower end there."""
    for term in loss_terms(evidence):
        square = term.target_rms**2
        if term.kind != "bce_with_logits" or not square > term.target_mean + 0.01 * max(1.0, abs(term.target_mean)):
            continue
        return Finding(
            "target-out-of-range",
            "critical",
            f"At {term.where} a binary cross entropy is given targets with a mean of {term.target_mean:.3g} and a root "
            f"mean square of {term.target_rms:.3g} (expected: between 0 and 1): outside of that it falls for ever.",
            {"target_mean": term.target_mean, "target_rms": term.target_rms, "expected_below": 1.0},
            f"Bring the target before {term.where} to 0 and 1: mask / 255, (y + 1) / 2.",
        )
    return None


def _weights_too_uneven(evidence: Evidence) -> Finding | None:
    """Weights of classes far more uneven than the classes are."""
    labels = evidence.batches.labels if evidence.batches else None
    for term in loss_terms(evidence):
        if term.weight_ratio <= _UNEVEN_WEIGHTS or not math.isfinite(term.weight_ratio):
            continue
        if term.kind == "bce_with_logits" and 0.0 < term.target_mean < 1.0:
            rarest = min(term.target_mean, 1.0 - term.target_mean)
            uneven = (1.0 - rarest) / rarest
        elif labels is not None and labels.leaf == term.target_leaf and len(labels.counts) > 1:
            if sum(labels.counts.values()) < 20 * len(labels.counts) or len(labels.counts) < (term.classes or 0):
                continue
            uneven = max(labels.counts.values()) / min(labels.counts.values())
        else:
            continue
        if term.weight_ratio < _UNEVEN_WEIGHTS * uneven:
            continue
        return Finding(
            "class-weights-too-uneven",
            "critical",
            f"At {term.where} one class weighs {term.weight_ratio:.3g} times as much as another, where the largest is "
            f"{uneven:.3g} times as frequent as the smallest (expected: weights as uneven as the classes at most).",
            {"weight_ratio": term.weight_ratio, "weight_ratio_expected_below": uneven, "line": term.where},
            f"Take the weights (pos_weight) at {term.where} away, or make them 1 / frequency.",
        )
    return None


def _zero_derivative(evidence: Evidence) -> Finding | None:
    """Parameters whose gradient is exactly zero in every look, behind an operation that is flat everywhere."""
    facts, flat = evidence.parameters, _facts(evidence).flat
    if facts is None or flat is None or facts.looks < 5 or facts.zero_gradient_share < 0.05:
        return None
    names = first_of(facts.zero_gradient)
    return Finding(
        "zero-derivative",
        "critical",
        f"At {flat[1]} {flat[0]} has a derivative of zero everywhere: the gradient of {names} was exactly 0 in "
        f"{facts.looks} looks ({facts.zero_gradient_share:.0%} of the numbers in optimizers, expected 0).",
        {"operation": flat[0], "line": flat[1], "share": facts.zero_gradient_share, "looks": facts.looks},
        f"Take {flat[0]} at {flat[1]} out of the loss, or pass its gradient through: x + (round(x) - x).detach().",
    )


WIRING_RULES: tuple[Rule, ...] = (
    Rule(
        "target-visible-in-input",
        Rank.DATA,
        ("operations",),
        _visible_target,
        explains=("*", "overfitting"),
        about="the token that is to be said is among those that are read: no shift, no causal mask",
    ),
    Rule(
        "samples-taken-for-steps",
        Rank.STRUCTURE,
        ("operations",),
        _samples_as_steps,
        explains=("*", "overfitting"),
        about="a recurrence or an attention goes along the samples of a batch",
    ),
    Rule(
        "zero-derivative",
        Rank.STRUCTURE,
        ("operations", "parameters"),
        _zero_derivative,
        explains=("*", "parameters-do-not-move", "parameters-without-gradient"),
        about="gradients are exactly zero behind an operation that is flat",
    ),
    Rule(
        "softmax-over-wrong-axis",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _wrong_softmax,
        explains=(
            "*",
            "softmax-before-cross-entropy",
            "activation-before-loss",
            "nll-without-log-softmax",
            "parameters-without-gradient",
        ),
        about="a softmax over samples, or over one element",
    ),
    Rule(
        "reshape-mixes-positions",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _mixing_reshape,
        explains=("*", "overfitting"),
        about="logits are reshaped where they should have been transposed",
    ),
    Rule(
        "nll-without-log-softmax",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _no_log_softmax,
        explains=("*", "learning-rate-too-high", "gradient-ascent"),
        about="a negative log likelihood of what is no log probability",
    ),
    Rule(
        "target-out-of-range",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _target_out_of_range,
        explains=("*", "gradient-ascent", "target-unscaled"),
        about="a binary target that is not between 0 and 1",
    ),
    Rule(
        "class-weights-too-uneven",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _weights_too_uneven,
        explains=("*", "overfitting"),
        about="weights of classes that are far more uneven than the classes",
    ),
)
