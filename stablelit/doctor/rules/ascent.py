"""Whether an optimizer steps uphill by mistake."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.findings import Finding
from stablelit.functional.medians import median_of

_WORDS_FOR_LOSSES = ("loss", "error", "cost", "mse", "mae", "nll", "perplexity")


def gradient_ascent(evidence: Evidence) -> Finding | None:
    """Steps uphill on a loss that is to be small."""
    facts = evidence.parameters or ParameterFacts()
    turned = _turned_loss(evidence)
    if turned is not None:
        return Finding(
            "gradient-ascent",
            "critical",
            f"The loss is the negative of its {turned} term ({evidence.curve('loss').last:.3g}, expected above 0): "
            "training makes that term large.",
            {"term": turned, "loss": evidence.curve("loss").last, "expected": 0.0},
            f"return the {turned} term without the minus.",
        )
    uphill = facts.maximized_share > 0.5 and (facts.ascent is None or facts.ascent > 0)
    loss = evidence.curve("loss").finite().values
    if not uphill:
        if facts.ascent is None or facts.ascent < 0.2 or facts.steps < 5 or not _rises(loss):
            return None
        return _ascends(facts, "the optimizer steps along its gradient")
    if len(loss) == 0 or loss[0] <= 0:
        return None
    known = evidence.operations is not None and evidence.operations.whole is not None
    if not known and (not _rises(loss) or _is_named_otherwise(evidence)):
        return None
    return _ascends(facts, "maximize=True")


def _is_named_otherwise(evidence: Evidence) -> bool:
    """Whether somebody who steps uphill logs quantities, and calls none of them a loss: a reward, a likelihood."""
    names = [name.lower() for name in evidence.curves if name.startswith("logged/")]
    # what is logged is known after an epoch
    return not any(word in name for name in names for word in _WORDS_FOR_LOSSES) if names else not evidence.ended


def _rises(loss: np.ndarray) -> bool:
    return len(loss) >= 20 and bool(median_of(loss[-5:]) > median_of(loss[:5]) + 2 * np.abs(np.diff(loss[:10])).mean())


def _ascends(facts: ParameterFacts, how: str) -> Finding:
    return Finding(
        "gradient-ascent",
        "critical",
        f"Steps go uphill: {how} (cosine between step and gradient {facts.ascent or 0.0:.2f}, expected below 0).",
        {"cosine": facts.ascent or 0.0, "expected": 0.0, "maximized_share": facts.maximized_share},
        "maximize=False, unless what training_step returns is to be large.",
    )


def _turned_loss(evidence: Evidence) -> str | None:
    """The kind of the term whose negative the loss is; a player of a game has one on purpose."""
    operations = evidence.operations
    if operations is None or evidence.settings.automatic is False or len(operations.terms) != 1:
        return None
    if _attacks(evidence):
        return None
    term = operations.terms[0]
    exact = term.value > 0 and abs(operations.loss + term.value) <= 1e-4 * term.value
    return (
        term.kind if exact and term.kind in ("cross_entropy", "mse", "l1", "bce_with_logits", "bce", "huber") else None
    )


def _attacks(evidence: Evidence) -> bool:
    """Whether all weights are frozen, and what is trained is added to an input to mislead them."""
    facts, layers = evidence.parameters, evidence.layers
    return facts is not None and layers is not None and not layers.weights and facts.frozen > facts.trainable


ASCENT_RULES: tuple[Rule, ...] = (
    Rule(
        "gradient-ascent",
        Rank.STRUCTURE,
        ("parameters",),
        gradient_ascent,
        explains=("*",),
        about="an optimizer that steps uphill",
    ),
)
