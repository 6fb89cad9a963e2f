"""The rule about a loss that has no lower end."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import loss_course, objective_changes
from stablelit.doctor.rules._words import shown
from stablelit.findings import Finding

# the last third falls by so many times what both before it have together; a loss with a lower end slows down
_FASTER = 3.0
_FAR_BELOW = 100.0
# of its first sixth: so far below, something has grown by itself, and may have come to where numbers end
_OUT_OF_THIS_WORLD = 1e5


def loss_unbounded(evidence: Evidence) -> Finding | None:
    """A negative loss that falls ever faster, to a hundred times what it began at: nothing holds it."""
    of = loss_course(evidence)
    if of is None or of.points < 60 or len(of.blocks) < 9:
        return None
    blocks = of.blocks
    third = len(blocks) // 3
    now, then = float(blocks[-1]), float(blocks[2 * third - 1])
    largest = max(abs(of.start), float(np.abs(blocks[: 2 * third]).max()))
    beginning = max(abs(of.start), float(np.abs(blocks[:2]).max()))
    faster = now < -_FAR_BELOW * abs(of.start) and then - now > _FASTER * largest
    faster = faster and bool((np.diff(blocks[2 * third :]) < 0).all())
    if not (faster or now < -_OUT_OF_THIS_WORLD * beginning) or objective_changes(evidence):
        return None
    return Finding(
        "loss-unbounded",
        "critical",
        f"The loss falls without a lower end, from {shown(of.start)} to {shown(then)} and {shown(now)} (expected: a "
        "fall that slows down).",
        {"loss_first": of.start, "loss_before": then, "loss_late": now},
        "look for a minus in front of the loss or of one of its terms, a missing logarithm or normalisation "
        "(log_softmax, log sigma), and a target outside of its range",
    )


UNBOUNDED_RULES: tuple[Rule, ...] = (
    Rule(
        "loss-unbounded",
        Rank.LOSS_MADE_WRONG,
        ("curves.loss",),
        loss_unbounded,
        "curve",
        explains=("*", "overfitting", "exploding-gradients", "learning-rate-too-high"),
        about="The loss falls ever faster, as one without a lower end does.",
    ),
)
