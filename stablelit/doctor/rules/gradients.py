"""Rules about gradients: do they arrive, does a step go down them, are they cleared."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import rate_rises
from stablelit.doctor.rules._words import first_of
from stablelit.doctor.rules.ascent import ASCENT_RULES
from stablelit.findings import Finding, Severity

# of the numbers concerned, above which nothing else that is seen means much
WEIGHTY = 0.05


def without_gradient(evidence: Evidence) -> Finding | None:
    """Used by the forward pass, and cut off from the loss."""
    facts = _facts(evidence)
    nothing = _nothing_arrives(evidence, facts)
    if nothing is not None or not facts.cut or facts.cut_looks < 2:
        return nothing
    severity: Severity = "critical" if facts.cut_share >= WEIGHTY and not facts.cut_without_graph else "warning"
    how = "they run under no_grad" if facts.cut_without_graph else "a detach, argmax or new tensor lies between them"
    return Finding(
        "parameters-without-gradient",
        severity,
        f"No gradient reaches {first_of(facts.cut)} ({facts.cut_share:.1%} of the numbers in optimizers, expected 0): "
        f"it reaches {facts.cut_next} and not {facts.cut_last}, which runs before it; {how}.",
        {"share": facts.cut_share, "expected": 0.0, "last_without": facts.cut_last, "first_with": facts.cut_next},
        f"look between {facts.cut_last} and {facts.cut_next} for detach(), no_grad(), .data, argmax or "
        "torch.tensor(...); if it is meant, call requires_grad_(False).",
    )


def _nothing_arrives(evidence: Evidence, facts: ParameterFacts) -> Finding | None:
    """A loss that no parameter hears: it was detached as a whole, or its derivative is zero."""
    loss = evidence.curve("loss")
    # an optimizer that nobody steps tells more of that
    dark = facts.dark_looks >= 3 and facts.steps >= 3 and facts.foreign == 0
    norms = evidence.curve("grad_norm").values
    zero = facts.zero_gradient_share > 0.999 and facts.steps >= 5 and len(norms) >= 5 and not norms.any()
    if not (dark or zero) or len(loss) < 5 or rate_rises(evidence):
        return None
    if not bool(np.isfinite(loss.values).all()) or not bool((loss.values[:5] != 0).all()):
        return None
    how = "got no gradient at all" if dark else "got a gradient of exactly 0"
    return Finding(
        "parameters-without-gradient",
        "critical",
        f"All parameters in optimizers {how} in {facts.looks} backward passes, at a loss of {loss.last:.3g} (expected: "
        "gradients that are not 0): the loss does not depend on them.",
        {"share": 1.0, "expected": 0.0, "looks": facts.looks, "loss": loss.last},
        "look in training_step for what cuts the loss off: loss.detach(), .item(), requires_grad_(), no_grad(), a new "
        "tensor made of the loss, a factor of 0, a comparison, argmax or round.",
    )


def not_zeroed(evidence: Evidence) -> Finding | None:
    """Gradients of the last step are still there when the next ones are added."""
    facts = _facts(evidence)
    if facts.left_over < 2 or facts.cleared:
        return None
    return Finding(
        "gradients-not-zeroed",
        "critical",
        f"Gradients of the step before were still there in {facts.left_over} looks (expected 0): "
        "each step goes along the sum of all gradients since the first.",
        {"looks_with_old_gradients": facts.left_over, "expected": 0},
        "call optimizer.zero_grad() before each backward pass; under automatic optimisation do not override "
        "optimizer_zero_grad with one that does not.",
    )


def _facts(evidence: Evidence) -> ParameterFacts:
    assert evidence.parameters is not None
    return evidence.parameters


_NEEDS = ("parameters",)
GRADIENT_RULES: tuple[Rule, ...] = (
    Rule(
        "parameters-without-gradient",
        Rank.STRUCTURE,
        _NEEDS,
        without_gradient,
        explains=("*",),
        about="in an optimizer, and never a gradient",
    ),
    *ASCENT_RULES,
    Rule(
        "gradients-not-zeroed",
        Rank.STRUCTURE,
        _NEEDS,
        not_zeroed,
        explains=("*",),
        about="gradients of the step before are still there",
    ),
)
