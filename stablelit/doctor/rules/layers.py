"""Rules about layers: what lets no gradient through, what fades or grows on its way, what does not hear its input."""

from __future__ import annotations

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.layers import ActivationFact, LayerFacts
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules.rate_too_high import rate_too_high
from stablelit.findings import Finding

# the least live layer of a healthy net of twelve layers keeps 0.39 of its units, a dead one less than 0.02 (measured)
_DEAD = 0.1
_SQUASHING = ("tanh", "sigmoid", "hardtanh")
# healthy tanh nets have 0.02 at first, ones drawn ten times too large 0.73 and more (measured)
_BORN_SATURATED, _SATURATED = 0.4, 0.95
# first over last weight: healthy 0.16 to 5.5 (measured over 79 nets); eight sigmoid layers have 1e-5, six 5e-5, and a
# recurrence of gain 3 has 158
_VANISHED, _EXPLODED = 1e-3, 30.0
_LEAST_LOOKS = 3
_LEAST_DEPTH = 4
_LEAST_STEPS = 50
_CONSTANT_STEPS = 25
# by then a rate that is too high has shown itself
_STEPS_OF_A_JUMP = 25


def dead_units(evidence: Evidence) -> Finding | None:
    """Nearly all units of a layer are closed for every sample."""
    facts = _facts(evidence)
    dead = [a for a in facts.activations if _is_dead(a)]
    if not dead:
        return None
    worst = min(dead, key=lambda a: (a.born_live >= _DEAD, a.live))
    born = worst.born_live < _DEAD
    rate = evidence.settings.learning_rate
    if not born and (evidence.step < _STEPS_OF_A_JUMP or rate_too_high(evidence) is not None):
        # what has killed them is told instead
        return None
    if born:
        history = "and were so from the first step on"
        remedy = "init of the layer's bias and weights (bias 0, kaiming_normal_), or what shifts its input below zero."
    else:
        history = f"of which {worst.born_live:.0%} were live at first: steps have killed them"
        remedy = evidence.settings.override("learning_rate", rate / 10 if rate else 1e-3)
    return Finding(
        "dead-units",
        "critical",
        f"{1 - worst.live:.0%} of the {worst.units} {worst.kind} units after {worst.name} are closed for every sample "
        f"(expected below 60%), {history}.",
        {
            "live": worst.live,
            "live_at_first": worst.born_live,
            "expected": 0.4,
            "layer": worst.name,
            "dead_layers": len(dead),
        },
        remedy,
    )


def saturated_units(evidence: Evidence) -> Finding | None:
    """The values of a squashing function lie where it is flat."""
    found = [a for a in _facts(evidence).activations if a.kind in _SQUASHING and a.looks >= _LEAST_LOOKS]
    if not found:
        return None
    # what training drives there while the loss falls is a code, or sure of its answers, as a single unit may be
    falls = _falls(evidence)
    flat = [
        a
        for a in found
        if min(a.born_saturated, a.saturated) > _BORN_SATURATED
        or (not falls and a.units > 1 and a.saturated > _SATURATED)
    ]
    if not flat:
        return None
    worst = max(flat, key=lambda a: a.saturated)
    born = worst.born_saturated > _BORN_SATURATED
    rate = evidence.settings.learning_rate
    return Finding(
        "saturated-units",
        "warning",
        f"{worst.saturated:.0%} of the {worst.kind} values after {worst.name} lie where its slope is below 2% of the "
        f"steepest (expected below 15%); at first it was {worst.born_saturated:.0%}.",
        {"saturated": worst.saturated, "at_first": worst.born_saturated, "expected": 0.15, "layer": worst.name},
        "smaller initial weights before it (xavier_normal_), or a norm."
        if born
        else evidence.settings.override("learning_rate", rate / 10 if rate else 1e-3),
    )


def vanishing(evidence: Evidence) -> Finding | None:
    """Gradients of the first weights are a thousandth of those of the last, and the loss does not fall."""
    facts = _facts(evidence)
    ratio = _fading(facts)
    if ratio is None or ratio >= _VANISHED or evidence.step < _LEAST_STEPS or _falls(evidence):
        return None
    if any(_is_dead(a) for a in facts.activations):
        return None
    depth = max(weight.depth for weight in facts.weights)
    kinds = sorted({a.kind for a in facts.activations})
    return Finding(
        "vanishing-gradients",
        "critical",
        f"The gradient of {facts.weights[0].name} is {ratio:.1g} of that of {facts.weights[-1].name} (root mean "
        f"square; expected above 0.01) over {depth} layers with {', '.join(kinds) or 'no activation'}, and the loss "
        "does not fall.",
        {"ratio": ratio, "expected": 0.01, "layers": depth},
        "a norm or a skip connection around each layer, an activation that does not squash (ReLU, GELU), or initial "
        "weights of variance 2 / fan_in.",
    )


def exploding(evidence: Evidence) -> Finding | None:
    """Gradients grow on their way back.

    What explodes along a recurrence that squashes is held by its flat parts, and may not be seen: a limit of 8 where
    the loss stands would see it, and blames a variational autoencoder that has learned all it can.
    """
    facts = _facts(evidence)
    if facts.looks < _LEAST_LOOKS or len(facts.weights) < 2 or facts.weights[-1].gradient_rms <= 0:
        return None
    largest = max(facts.weights[:-1], key=lambda weight: weight.gradient_rms)
    ratio = largest.gradient_rms / facts.weights[-1].gradient_rms
    if not ratio > _EXPLODED or ratio == float("inf"):
        return None
    return Finding(
        "exploding-gradients",
        "warning",
        f"The gradient of {largest.name} is {ratio:.3g} times that of {facts.weights[-1].name} (root mean square; "
        "expected below 10): it grows on its way back.",
        {"ratio": ratio, "expected": 10.0, "layer": largest.name},
        "trainer.gradient_clip_val=1.0, and smaller (recurrent) weights at first: orthogonal_ with gain 1.",
    )


def output_constant(evidence: Evidence) -> Finding | None:
    """The last layer says the same, whatever it is asked.

    A head that begins at zero is waited for; where gradients fade on their way, that is the cause.
    """
    facts = _facts(evidence)
    if facts.output_constant_looks < _LEAST_LOOKS or facts.output_spread is None:
        return None
    last = next((weight for weight in facts.weights if weight.name.rpartition(".")[0] == facts.output), None)
    drawn = last is not None and last.weight_rms > 0 and facts.output_spread < 1e-6
    if facts.output_steps < (_LEAST_LOOKS - 1 if drawn else _CONSTANT_STEPS):
        return None
    ratio = _fading(facts)
    if (ratio is not None and ratio < _VANISHED) or any(_is_dead(a) for a in facts.activations):
        return None
    if evidence.step >= _STEPS_OF_A_JUMP and rate_too_high(evidence) is not None:
        return None
    return Finding(
        "output-constant",
        "critical",
        f"The output of {facts.output} is the same for every sample: it varies by {facts.output_spread:.1g} of its "
        f"size (expected above 0.01) in {facts.output_constant_looks} looks in a row, though the input varies.",
        {"spread": facts.output_spread, "expected": 0.01, "looks": facts.output_constant_looks},
        f"look before {facts.output} for what loses the sample: a mean or max over the batch axis, a factor of 0, a "
        "reshape that mixes samples, a part that is never called.",
    )


def _facts(evidence: Evidence) -> LayerFacts:
    assert evidence.layers is not None
    return evidence.layers


def _is_dead(activation: ActivationFact) -> bool:
    return (
        activation.kind not in _SQUASHING
        and activation.units >= 4
        and activation.looks >= _LEAST_LOOKS
        and activation.live < _DEAD
    )


def _fading(facts: LayerFacts) -> float | None:
    """Gradient of the first weight over that of the last; None where there are few, or nothing comes."""
    if facts.looks < _LEAST_LOOKS or len(facts.weights) < _LEAST_DEPTH or facts.weights[0].depth < _LEAST_DEPTH:
        return None
    last = max(weight.gradient_rms for weight in facts.weights[-2:])
    first = max(weight.gradient_rms for weight in facts.weights[:2])
    return first / last if 0 < last < float("inf") else None


def _falls(evidence: Evidence) -> bool:
    loss = evidence.curve("loss").finite()
    blocks = loss.blocks(6)
    return len(blocks) < 6 or float(blocks[0] - blocks[-1]) > 0.2 * abs(float(blocks[0]))


_NEEDS = ("layers",)
LAYER_RULES: tuple[Rule, ...] = (
    Rule(
        "dead-units",
        Rank.PROPAGATION,
        _NEEDS,
        dead_units,
        explains=("*", "vanishing-gradients", "output-constant", "not-learning", "batch-norm-statistics-off"),
        about="units that are closed for every sample",
    ),
    Rule(
        "saturated-units",
        Rank.PROPAGATION,
        _NEEDS,
        saturated_units,
        explains=("vanishing-gradients", "not-learning", "plateau", "learning-rate-too-low"),
        about="tanh and sigmoid where they are flat",
    ),
    Rule(
        "vanishing-gradients",
        Rank.PROPAGATION,
        (*_NEEDS, "curves.loss"),
        vanishing,
        "curve",
        explains=("*", "output-constant", "not-learning", "learning-rate-too-low"),
        about="gradients that fade on their way to the first layers",
    ),
    Rule(
        "exploding-gradients",
        Rank.PROPAGATION,
        _NEEDS,
        exploding,
        "curve",
        explains=("loss-not-finite", "loss-diverges", "loss-oscillates", "loss-spike", "not-learning"),
        about="gradients that grow on their way to the first layers",
    ),
    Rule(
        "output-constant",
        Rank.PROPAGATION,
        _NEEDS,
        output_constant,
        explains=("*", "not-learning", "plateau", "labels-unrelated-to-input"),
        about="an output that does not depend on the input",
    ),
)
