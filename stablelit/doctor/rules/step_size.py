"""Rules about the size of steps: learning rates that are too high and too low."""

from __future__ import annotations

from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules.rate_too_high import rate_too_high
from stablelit.doctor.rules.rate_too_low import rate_too_low

HARDLY_MOVES = (
    "not-learning",
    "plateau",
    "parameters-do-not-move",
    "labels-unrelated-to-input",
    "worse-than-empty-graph",
)
_BLOWS_UP = (
    "loss-not-finite",
    "loss-diverges",
    "loss-spike",
    "loss-oscillates",
    "not-learning",
    "plateau",
    "exploding-gradients",
    "vanishing-gradients",
    "dead-units",
    "saturated-units",
    "output-constant",
    "parameters-do-not-move",
)

STEP_SIZE_RULES: tuple[Rule, ...] = (
    Rule(
        "learning-rate-too-high",
        Rank.STEP_SIZE,
        ("curves.loss",),
        rate_too_high,
        "structural",
        (*_BLOWS_UP, "overfitting", "labels-unrelated-to-input"),
        "The loss blows up, jumps or stands, and a step is as large as the weights.",
    ),
    Rule(
        "learning-rate-too-low",
        Rank.STEP_SIZE,
        ("curves.loss",),
        rate_too_low,
        "curve",
        HARDLY_MOVES,
        "The loss hardly falls, and the weights hardly move in all that is planned.",
    ),
)
