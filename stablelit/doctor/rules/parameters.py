"""Rules about parameters: in an optimizer, once, moving, and each its own."""

from __future__ import annotations

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._loss_course import rate_rises
from stablelit.doctor.rules._words import first_of
from stablelit.doctor.rules.clipping import weights_stand_still_for_the_clip
from stablelit.doctor.rules.gradients import GRADIENT_RULES, WEIGHTY
from stablelit.findings import Finding, Severity

# healthy 0.06 at most (SGD on bfloat16 weights), Adam at 1e-4 on them 0.78 (measured)
_STILL = 0.6
_LOW_PRECISION = ("bfloat16", "float16")


def missing_from_optimizer(evidence: Evidence) -> Finding | None:
    """Trainable and with a gradient, and yet in no optimizer.

    A backbone frozen on purpose has ``requires_grad=False``, or gets no gradient, or is in evaluation mode.
    """
    facts = _facts(evidence)
    if not facts.missing:
        return None
    severity: Severity = "critical" if facts.missing_share >= WEIGHTY else "warning"
    elsewhere = f"; optimizers hold {facts.foreign} tensors that the module does not have" if facts.foreign else ""
    why = (
        "build the optimizers in configure_optimizers from the parameters that the module has then, after layers were "
        "replaced or moved"
        if facts.foreign
        else "pass them to an optimizer in configure_optimizers, or freeze them with requires_grad_(False)"
    )
    return Finding(
        "parameters-missing-from-optimizer",
        severity,
        f"{first_of(facts.missing)} get gradients and are in no optimizer: {facts.missing_share:.1%} of the numbers "
        f"with a gradient, expected 0{elsewhere}.",
        {"share": facts.missing_share, "expected": 0.0, "first": facts.missing[0], "foreign_tensors": facts.foreign},
        f"{why}: {', '.join(facts.missing[:3])}.",
    )


def do_not_move(evidence: Evidence) -> Finding | None:
    """In an optimizer, with gradients and a rate above zero, and the same after several steps."""
    facts = _facts(evidence)
    if facts.still_without_step:
        return _never_stepped(evidence, facts)
    if facts.empty_steps >= 5 and facts.empty_steps == facts.steps:
        return Finding(
            "parameters-do-not-move",
            "critical",
            f"In all {facts.steps} steps seen the optimizers had no gradient to go by, though backward passes had left "
            "some (expected: gradients that are not 0 in each step).",
            {"steps": facts.steps, "steps_without_gradient": facts.empty_steps, "expected": 0},
            "call zero_grad() before the backward pass or after step(), and not between the two.",
        )
    # in a low precision small tensors stand still by chance: there only single numbers, all together, tell
    tensors = bool(facts.still) and facts.still_steps >= 3 and facts.still_dtype not in _LOW_PRECISION
    numbers = facts.still_numbers >= _STILL and facts.still_steps >= 20
    if not (tensors or numbers):
        return None
    # a clip that takes gradients away is told by its own rule, as soon as that can be judged
    if rate_rises(evidence) or weights_stand_still_for_the_clip(evidence):
        return None
    if tensors:
        severity: Severity = "critical" if facts.still_share >= WEIGHTY else "warning"
        return Finding(
            "parameters-do-not-move",
            severity,
            f"{first_of(facts.still)} have not changed in {facts.still_steps} steps, though they have gradients and a "
            f"learning rate: {facts.still_share:.1%} of the numbers that should move, expected 0.",
            {"share": facts.still_share, "steps": facts.still_steps, "expected": 0.0, "dtype": facts.still_dtype},
            _why_still(evidence, facts),
        )
    return Finding(
        "parameters-do-not-move",
        "critical",
        f"{facts.still_numbers:.0%} of the numbers with a gradient have not changed in {facts.still_steps} steps "
        f"(expected below 30%): a step is smaller than what {facts.still_dtype} can resolve.",
        {"share": facts.still_numbers, "steps": facts.still_steps, "expected": 0.3, "dtype": facts.still_dtype},
        _why_still(evidence, facts),
    )


def in_two_optimizers(evidence: Evidence) -> Finding | None:
    """Stepped by two optimizers in one batch, one of which holds everything that the other holds."""
    facts = _facts(evidence)
    if not facts.shared or facts.looks < 2:
        return None
    return Finding(
        "parameter-in-two-optimizers",
        "warning",
        f"{first_of(facts.shared)} are stepped by two optimizers in the same batch, one of which holds all that the "
        "other holds (expected: each parameter in one).",
        {"first": facts.shared[0], "optimizers": 2, "expected": 1},
        "give each optimizer its own part's parameters in configure_optimizers.",
    )


def rate_zero(evidence: Evidence) -> Finding | None:
    """Every learning rate has been 0 since training began."""
    facts = _facts(evidence)
    if facts.zero_rate_share < 0.999 or facts.zero_rate_steps < 2:
        return None
    patience = max(50, 0.2 * (evidence.planned_steps or 1000)) if facts.scheduled else 2
    if evidence.step < patience:
        return None
    schedule = "; the schedule has kept it there" if facts.scheduled else ""
    return Finding(
        "learning-rate-zero",
        "critical",
        f"The learning rate has been exactly 0 in all of {evidence.step} steps (expected above 0){schedule}.",
        {"learning_rate": 0.0, "steps": evidence.step},
        f"{evidence.settings.override('learning_rate', 1e-3)}"
        + (" and have the schedule's factor above 0 after its warm-up." if facts.scheduled else ""),
    )


def interchangeable(evidence: Evidence) -> Finding | None:
    """Units of a hidden layer that are one and the same, and stay so."""
    facts = _facts(evidence)
    if not facts.interchangeable or facts.interchangeable_steps < 3:
        return None
    how = "all zero" if facts.zero_weights else "all rows equal"
    return Finding(
        "units-interchangeable",
        "critical",
        f"{first_of(facts.interchangeable)} {'are' if len(facts.interchangeable) > 1 else 'is'} {how} after "
        f"{facts.interchangeable_steps} steps (expected: every unit its own weights): units that begin equal get equal "
        "gradients, and the layer is worth one unit.",
        {"matrices": len(facts.interchangeable), "first": facts.interchangeable[0], "expected": 0},
        "initialise these weights at random (torch.nn.init.kaiming_normal_), not with a constant; biases may be zero.",
    )


def decay_too_strong(evidence: Evidence) -> Finding | None:
    """Weight decay takes the weights away faster than the gradient builds them up, and the loss does not fall."""
    facts = _facts(evidence)
    decay = max((group.weight_decay for group in evidence.settings.optimizers), default=0.0)
    if facts.decay_pull is None or facts.norm_ratio is None or decay <= 0:
        return None
    loss = evidence.curve("loss").finite()
    if facts.decay_pull < 0.3 or facts.norm_ratio > 0.5 or len(loss) < 50:
        return None
    blocks = loss.blocks(6)
    first, last = float(blocks[0]), float(blocks[-1])
    if first - last > 0.2 * abs(first):
        return None
    return Finding(
        "weight-decay-too-strong",
        "critical",
        f"Weight decay {decay:.3g} is {facts.decay_pull:.0%} of a step (expected below 10%): weights are at "
        f"{facts.norm_ratio:.2g} of their first size, and the loss went from {first:.3g} to {last:.3g}.",
        {"pull": facts.decay_pull, "norm_ratio": facts.norm_ratio, "weight_decay": decay, "expected": 0.1},
        evidence.settings.override("weight_decay", decay / 1000),
    )


def _facts(evidence: Evidence) -> ParameterFacts:
    assert evidence.parameters is not None
    return evidence.parameters


def _never_stepped(evidence: Evidence, facts: ParameterFacts) -> Finding | None:
    patience = max(32, 2 * (evidence.settings.accumulated or 1))
    if not facts.still or facts.looks < 3 or facts.still_steps < patience:
        return None
    return Finding(
        "parameters-do-not-move",
        "critical",
        f"No optimizer has stepped in {facts.still_steps} batches (expected a step in each), and no parameter has "
        "changed.",
        {"batches": facts.still_steps, "steps": 0},
        "call optimizer.step() in training_step (manual optimisation), or the optimizer's step in optimizer_step.",
    )


def _why_still(evidence: Evidence, facts: ParameterFacts) -> str:
    rate = evidence.settings.learning_rate
    if facts.still_dtype in _LOW_PRECISION:
        return "trainer.precision=bf16-mixed (weights in 32 bit), or a larger learning rate."
    if facts.still_numbers >= 0.9 and rate is not None and rate < 1e-6:
        return f"{evidence.settings.override('learning_rate', 1e-3)}"
    return (
        "look for what puts them back in every step (a copy, a constraint, load_state_dict), for an optimizer over "
        "other tensors, and for a learning rate below their resolution."
    )


_NEEDS = ("parameters",)
PARAMETER_RULES: tuple[Rule, ...] = (
    Rule(
        "parameters-missing-from-optimizer",
        Rank.STRUCTURE,
        _NEEDS,
        missing_from_optimizer,
        explains=("*", "parameters-without-gradient", "parameters-do-not-move"),
        about="trainable, with a gradient, and in no optimizer",
    ),
    Rule(
        "learning-rate-zero",
        Rank.STRUCTURE,
        _NEEDS,
        rate_zero,
        explains=("*", "parameters-do-not-move"),
        about="every learning rate has been 0 from the first step on",
    ),
    Rule(
        "parameters-do-not-move",
        Rank.STRUCTURE,
        _NEEDS,
        do_not_move,
        explains=("*", "gradients-not-zeroed", "units-interchangeable"),
        about="in an optimizer, with a gradient, and unchanged",
    ),
    *GRADIENT_RULES,
    Rule(
        "units-interchangeable",
        Rank.STRUCTURE,
        _NEEDS,
        interchangeable,
        explains=("*",),
        about="hidden units that are all the same",
    ),
    Rule(
        "parameter-in-two-optimizers", Rank.STRUCTURE, _NEEDS, in_two_optimizers, about="one parameter, two optimizers"
    ),
    Rule(
        "weight-decay-too-strong",
        Rank.SETTINGS,
        ("parameters", "curves.loss"),
        decay_too_strong,
        "curve",
        explains=("*",),
        about="weights shrink faster than they learn",
    ),
)
