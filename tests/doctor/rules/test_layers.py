"""Rules about layers: every threshold lies three times away from the worst healthy and the mildest faulty value."""

from __future__ import annotations

import numpy as np
import pytest

from stablelit.doctor.evidence import Curve, Evidence, Settings
from stablelit.doctor.evidence.layers import ActivationFact, LayerFacts, WeightFact
from stablelit.doctor.rules.layers import LAYER_RULES


def evidence_of(facts: LayerFacts, late: float = 1.6) -> Evidence:
    loss = Curve(range(120), np.linspace(1.6, late, 120))
    return Evidence(step=120, layers=facts, curves={"loss": loss}, settings=Settings())


def found(facts: LayerFacts, late: float = 1.6) -> list[str]:
    evidence = evidence_of(facts, late)
    told = [rule.check(evidence) for rule in LAYER_RULES]
    return [finding.name for finding in told if finding is not None]


def weights(*sizes: float) -> list[WeightFact]:
    return [WeightFact(f"net.{i}.weight", len(sizes) - i, size, 0.1) for i, size in enumerate(sizes)]


# the worst of 79 healthy nets, and the mildest of the faulty ones: benchmarks and prototypes, three seeds
@pytest.mark.parametrize(("ratio", "told"), [(0.16 / 3, False), (5e-5 * 3, True)])
def test_fading_has_three_times_of_margin_on_both_sides(ratio: float, told: bool) -> None:
    facts = LayerFacts(looks=9, steps=100, weights=weights(ratio, ratio, 0.3, 1.0, 1.0))
    assert found(facts) == (["vanishing-gradients"] if told else [])
    assert found(facts, late=0.8) == []


@pytest.mark.parametrize(("ratio", "told"), [(5.5 * 3, False), (158 / 3, True)])
def test_growing_has_three_times_of_margin_on_both_sides(ratio: float, told: bool) -> None:
    facts = LayerFacts(looks=9, weights=weights(ratio, 1.0))
    assert found(facts, late=0.8) == (["exploding-gradients"] if told else [])


# the shipped recipe of the jets has 9.6 at its end, where it has learned what it can and its loss stands
def test_gradients_that_grow_some_are_not_told_where_the_loss_stands() -> None:
    assert found(LayerFacts(looks=9, weights=weights(9.6, 1.0)), late=1.6) == []


@pytest.mark.parametrize(("live", "told"), [(0.39 / 3, False), (0.02, True)])
def test_dead_units_have_three_times_of_margin(live: float, told: bool) -> None:
    facts = LayerFacts(looks=9, activations=[ActivationFact("net.0", "relu", 64, 9, 0.95, live)])
    assert found(facts) == (["dead-units"] if told else [])


@pytest.mark.parametrize(("born", "now", "told"), [(0.02, 0.72, False), (0.7, 0.7, True), (0.0, 0.99, True)])
def test_saturation_is_told_where_it_was_born_or_is_complete(born: float, now: float, told: bool) -> None:
    facts = LayerFacts(looks=9, activations=[ActivationFact("net.0", "tanh", 64, 9, 1.0, 1.0, born, now)])
    assert found(facts) == (["saturated-units"] if told else [])


def test_codes_that_are_driven_to_the_ends_while_the_loss_falls_are_meant() -> None:
    facts = LayerFacts(looks=9, activations=[ActivationFact("net.0", "tanh", 12, 9, 1.0, 1.0, 0.0, 0.99)])
    assert found(facts) == ["saturated-units"]
    assert found(facts, late=0.4) == []


def test_a_head_at_zero_is_waited_for_and_then_told() -> None:
    facts = LayerFacts(looks=5, output="head", output_constant_looks=4, output_spread=0.0, output_steps=4)
    assert found(facts) == []
    facts.output_steps, facts.output_constant_looks = 60, 8
    assert found(facts) == ["output-constant"]


def test_a_constant_output_behind_dead_units_is_their_consequence() -> None:
    dead = [ActivationFact("net.0", "relu", 64, 9, 0.0, 0.0)]
    facts = LayerFacts(
        looks=9, activations=dead, output="head", output_constant_looks=8, output_spread=0.0, output_steps=60
    )
    assert found(facts) == ["dead-units"]
