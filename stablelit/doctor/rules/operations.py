"""Rules about what the loss is made of."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.levels import double_softmax_floor
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import loss_now, loss_terms, whole_term
from stablelit.doctor.rules._loss_course import after_run_in
from stablelit.doctor.rules.chance import CHANCE_RULES
from stablelit.findings import Finding

_UNREACHABLE = 0.1
_BOUNDED = frozenset({"relu", "relu6", "sigmoid", "tanh", "hardtanh", "softplus"})


def _softmax_twice(evidence: Evidence) -> Finding | None:
    """A softmax in front of a loss that applies one itself."""
    for term in loss_terms(evidence):
        if term.kind == "cross_entropy" and term.made_by == "softmax":
            wrong = "cross_entropy is given the output of a softmax, and applies one itself"
        elif term.kind == "nll" and term.made_by == "log_softmax" and term.made_from == "softmax":
            wrong = "log_softmax is given the output of a softmax"
        elif term.kind == "nll" and term.made_by == "softmax":
            wrong = "nll_loss is given probabilities, where it expects their logarithm"
        else:
            continue
        classes = term.classes or 2
        floor = double_softmax_floor(classes)
        message = f"At {term.where} {wrong}."
        if term.made_from == "softmax" or term.kind == "cross_entropy":
            message = f"{message[:-1]}: with {classes} classes the loss cannot go below {floor:.3f} (expected: 0)."
        return Finding(
            "softmax-before-cross-entropy",
            "critical",
            message,
            {"classes": classes, "lowest_loss": floor, "lowest_loss_expected": 0.0, "line": term.where},
            f"Take the softmax before {term.where} away: the loss wants logits.",
        )
    return None


def _sigmoid_twice(evidence: Evidence) -> Finding | None:
    """A sigmoid in front of a loss that applies one itself, or behind another."""
    for term in loss_terms(evidence):
        into_logits = term.kind == "bce_with_logits" and term.made_by in ("sigmoid", "softmax")
        behind_another = term.kind == "bce" and term.made_by == "sigmoid" and term.made_from in ("sigmoid", "softmax")
        if into_logits or behind_another:
            low, high = (0.5, 1 / (1 + math.exp(-1)))
            first = term.made_by if into_logits else term.made_from
            return Finding(
                "sigmoid-before-bce-with-logits",
                "critical",
                f"At {term.where} a sigmoid is applied to the output of a {first}: probabilities stay between {low} "
                f"and {high:.2f} (expected: 0 to 1).",
                {"lowest_probability": low, "highest_probability": high, "line": term.where},
                f"Take the {first} before {term.where} away: the loss wants logits.",
            )
    return None


def _activation_before_loss(evidence: Evidence) -> Finding | None:
    """The last layer's range leaves out what it should say."""
    for term in loss_terms(evidence):
        if term.kind in ("cross_entropy", "bce_with_logits") and term.made_by in _BOUNDED:
            if term.kind == "bce_with_logits" and term.made_by == "sigmoid":
                continue
            message = (
                f"At {term.where} logits come out of a {term.made_by}, between {term.low:.3g} and {term.high:.3g} "
                "(expected: any number)."
            )
        elif term.made_by in (_BOUNDED | {"softmax"}) and term.unreachable > _UNREACHABLE:
            message = (
                f"At {term.where} the prediction comes out of a {term.made_by}, whose range leaves out "
                f"{term.unreachable:.0%} of the target values (expected: none)."
            )
        else:
            continue
        return Finding(
            "activation-before-loss",
            "critical",
            message,
            {"activation": term.made_by, "unreachable": term.unreachable, "unreachable_expected_below": _UNREACHABLE},
            f"Take the {term.made_by} of the last layer away, before {term.where}.",
        )
    return None


def _broadcasts(evidence: Evidence) -> Finding | None:
    """(N, 1) against (N,) is (N, N)."""
    facts = evidence.operations
    if facts is None or not facts.broadcasts:
        return None
    found = facts.broadcasts[0]
    column, row = str(found.prediction_shape), str(found.target_shape)
    return Finding(
        "loss-broadcasts",
        "critical",
        f"At {found.where} a prediction of shape {column} meets a target of shape {row}: each is compared with every "
        "other (expected: one and the same shape).",
        {"prediction_shape": column, "target_shape": row, "line": found.where},
        f"Bring both to one shape at {found.where}: prediction.squeeze(-1), or target.unsqueeze(-1).",
    )


def _infinite_derivative(evidence: Evidence) -> Finding | None:
    """An operation met where it, or its derivative, is infinite, and it shows in loss or gradient."""
    facts = evidence.operations
    if facts is None or not facts.edges:
        return None
    loss_finite = math.isfinite(facts.loss)
    for edge in facts.edges:
        shows = facts.gradient_finite is False or (edge.infinite and not loss_finite)
        if not shows:
            continue
        what = "value" if edge.infinite else "derivative"
        consequence = "gradients are not finite" if loss_finite else "the loss is not finite"
        return Finding(
            "infinite-derivative",
            "critical",
            f"At {edge.where} {edge.operation} is taken of {edge.argument:.3g}, where its {what} is infinite "
            f"({edge.count} times in a batch), and {consequence}.",
            {"operation": edge.operation, "argument": edge.argument, "count": edge.count, "line": edge.where},
            _REMEDIES.get(edge.operation, "Keep its argument away from there, before the operation: clamp(min=1e-8).")
            + f" ({edge.where})",
        )
    return None


_REMEDIES = {
    "acos": "Take angles as atan2(|u x v|, u . v), or clamp to +-(1 - 1e-6) before acos.",
    "asin": "Clamp to +-(1 - 1e-6) before asin.",
    "sqrt": "Write (x + 1e-12).sqrt(), or clamp(min=1e-12) before the root; torch.where after it does not help.",
    "div": "Add a small number to the denominator, or clamp it away from 0.",
    "std": "One value has no standard deviation: pass correction=0, or more than one.",
    "var": "One value has no variance: pass correction=0, or more than one.",
}


def _summed(evidence: Evidence) -> Finding | None:
    """A sum over the batch multiplies the step by the batch size, where the optimizer does not undo it."""
    facts = evidence.operations
    if facts is None or facts.summed_over < 2 or evidence.settings.clip_value:
        return None
    kinds = {group.kind for group in evidence.settings.optimizers}
    if not kinds or not kinds <= {"SGD", "LARS"}:
        return None
    suffering = _steps_too_large(evidence)
    if suffering is None:
        return None
    return Finding(
        "loss-summed",
        "critical",
        f"At {facts.summed_where} the loss is a sum over {facts.summed_over} samples and not their mean, which makes "
        f"steps {facts.summed_over} times as long: {suffering}.",
        {"samples": facts.summed_over, "samples_expected": 1, "line": facts.summed_where},
        f"Take the mean over samples at {facts.summed_where}, or divide the learning rate: "
        + evidence.settings.override("learning_rate", (evidence.settings.learning_rate or 1.0) / facts.summed_over),
    )


def _steps_too_large(evidence: Evidence) -> str | None:
    loss, update = evidence.curve("loss"), evidence.curve("update_ratio").finite()
    if len(loss) and not math.isfinite(loss.last):
        return "the loss is not finite any more"
    if len(loss) >= 8 and (highest := float(max(loss.values[1:40]))) > 2.0 * loss.values[0] > 0:
        return f"the loss rose from {loss.values[0]:.3g} to {highest:.3g}"
    if len(update) >= 3 and (largest := float(max(update.values[:8]))) > 0.2:
        return f"weights change by {largest:.0%} in a step (expected: below 10%)"
    found, now = whole_term(evidence), loss_now(evidence)
    if found is not None and now is not None and after_run_in(evidence, 50) and now > 0.95 * found[1].uniform:
        return f"after {evidence.step} steps the loss is at {now:.3g} per sample, which is chance ({found[1].formula})"
    return None


def dropout_in_validation(evidence: Evidence) -> Finding | None:
    """`torch.nn.functional.dropout` is active wherever nobody tells it not to be."""
    facts = evidence.operations
    if facts is None or not facts.validation_dropout:
        return None
    where, rate = facts.validation_dropout_where, facts.validation_dropout
    return Finding(
        "train-mode-in-validation",
        "warning",
        f"In validation a functional dropout of {rate:g} at {where} is active (expected: none).",
        {"dropout": rate, "dropout_expected": 0.0, "line": where},
        f"Pass training=self.training at {where}, or use torch.nn.Dropout.",
    )


OPERATION_RULES: tuple[Rule, ...] = (
    Rule(
        "softmax-before-cross-entropy",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _softmax_twice,
        explains=("*",),
        about="a softmax in front of a loss that applies one itself",
    ),
    Rule(
        "sigmoid-before-bce-with-logits",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _sigmoid_twice,
        explains=("*",),
        about="a sigmoid in front of a loss that applies one itself",
    ),
    Rule(
        "activation-before-loss",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _activation_before_loss,
        explains=("*",),
        about="the range of the last activation leaves out what it should say",
    ),
    Rule(
        "loss-broadcasts",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _broadcasts,
        explains=("*",),
        about="(N, 1) against (N,): every prediction is compared with every target",
    ),
    Rule(
        "infinite-derivative",
        Rank.LOSS_MADE_WRONG,
        ("operations",),
        _infinite_derivative,
        explains=("*", "loss-not-finite"),
        about="acos, sqrt, log or a division at its edge",
    ),
    Rule(
        "loss-summed",
        Rank.LOSS_MADE_WRONG,
        ("operations", "settings.optimizers"),
        _summed,
        explains=("*",),
        about="a sum over the batch, with steps too long for it",
    ),
    *CHANCE_RULES,
)
