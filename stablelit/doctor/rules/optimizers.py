"""Rules about what an optimizer is set to beside its rate: momentum and epsilon."""

from __future__ import annotations

import math

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import loss_course, movement, planned
from stablelit.findings import Finding
from stablelit.functional.medians import median_of

_ADAM = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop"})
# of the gradient's root mean square: healthy 1e-3 at most (1e-8 against 1e-5 of large nets)
_LARGE_EPSILON = 10.0
_LEAST_STEPS = 100


def _momentum_too_long(evidence: Evidence) -> Finding | None:
    """A momentum whose memory 1 / (1 - m) is longer than the run: it never gets to the direction that it averages."""
    total = planned(evidence)
    momenta = [g.momentum for g in evidence.settings.optimizers if math.isfinite(g.momentum) and g.trainable]
    if not momenta or total is None or total < _LEAST_STEPS or max(momenta) >= 1.0:
        return None
    momentum = max(momenta)
    memory = 1.0 / (1.0 - momentum)
    if memory <= total or momentum < 0.99:
        return None
    return Finding(
        "momentum-too-long",
        "warning",
        f"A momentum of {momentum:g} averages over {memory:.0f} steps, and the run has {total:.0f} (expected: a tenth "
        "of it at most): steps go where gradients pointed long ago.",
        {"momentum": momentum, "memory_steps": memory, "memory_expected_below": total / 10, "planned": total},
        f"{evidence.settings.override('momentum', 0.9)} (of Adam: betas=(0.9, 0.999), in this order)",
    )


def _epsilon_too_large(evidence: Evidence) -> Finding | None:
    """An epsilon far above the gradient: Adam's steps are of the size rate times gradient over epsilon."""
    groups = [g for g in evidence.settings.optimizers if g.trainable]
    if not groups or evidence.parameters is None or any(g.kind not in _ADAM for g in groups):
        return None
    norms = evidence.curve("grad_norm").finite().values
    epsilon, numbers = min(g.epsilon for g in groups), sum(g.trainable for g in groups)
    if len(norms) < 5 or not epsilon > 0 or numbers <= 0:
        return None
    size = median_of(norms) / math.sqrt(numbers)
    if size <= 0 or epsilon < _LARGE_EPSILON * size:
        return None
    of, moved = loss_course(evidence), movement(evidence)
    if of is None or moved is None or moved > 1.0 or of.late < 0.5 * of.start:
        return None
    return Finding(
        "epsilon-too-large",
        "warning",
        f"epsilon is {epsilon:.3g}, {epsilon / size:.3g} times the gradient's root mean square ({size:.2g}; expected "
        f"below 0.01 times): steps are as many times shorter than the rate says, and the loss has gone from "
        f"{of.start:.3g} to {of.late:.3g} only.",
        {"epsilon": epsilon, "gradient": size, "ratio": epsilon / size, "ratio_expected_below": 0.01},
        evidence.settings.override("eps", 1e-8) if epsilon > 1e-6 else "scale the loss up, or take a smaller eps",
    )


OPTIMIZER_RULES: tuple[Rule, ...] = (
    Rule(
        "momentum-too-long",
        Rank.SETTINGS,
        ("settings.optimizers",),
        _momentum_too_long,
        explains=("*", "labels-unrelated-to-input", "overfitting"),
        about="a momentum that averages over more steps than the run has",
    ),
    Rule(
        "epsilon-too-large",
        Rank.SETTINGS,
        ("settings.optimizers", "parameters", "curves.loss", "curves.grad_norm"),
        _epsilon_too_large,
        "curve",
        explains=("learning-rate-too-low", "not-learning", "plateau"),
        about="Adam's epsilon is far above the gradient, and the loss hardly falls",
    ),
)
