"""Rules about parameters, on evidence made by hand: what is a cause, and what only looks like one."""

from __future__ import annotations

import numpy as np
import pytest

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings, Settings
from stablelit.doctor.evidence.layers import LayerFacts, WeightFact
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.rules.parameters import PARAMETER_RULES
from stablelit.findings import Finding

RULES = {rule.name: rule for rule in PARAMETER_RULES}


def evidence_of(facts: ParameterFacts, loss: object = (), step: int = 100, **settings: object) -> Evidence:
    values = np.asarray(loss, dtype=float)
    curves = {"loss": Curve(np.arange(len(values)), values)} if len(values) else {}
    return Evidence(step=step, parameters=facts, curves=curves, settings=Settings(**settings))  # type: ignore[arg-type]


def ask(name: str, evidence: Evidence) -> Finding | None:
    return RULES[name].check(evidence)


def test_nothing_is_found_in_facts_that_say_nothing() -> None:
    assert [rule.check(evidence_of(ParameterFacts(), np.ones(60))) for rule in PARAMETER_RULES] == [None] * 9


def test_a_forgotten_scalar_is_no_reason_to_pass_over_the_rest() -> None:
    small = ask("parameters-missing-from-optimizer", evidence_of(ParameterFacts(missing=["scale"], missing_share=1e-3)))
    large = ask("parameters-missing-from-optimizer", evidence_of(ParameterFacts(missing=["net"], missing_share=0.9)))
    assert small is not None
    assert large is not None
    assert (small.severity, large.severity) == ("warning", "critical")


@pytest.mark.parametrize(("first", "told"), [(2.0, True), (-2.0, False)])
def test_a_likelihood_may_be_made_large(first: float, told: bool) -> None:
    """maximize=True on a loss above 0 that rises, and on a log-likelihood below 0 that does."""
    facts = ParameterFacts(maximized_share=1.0, ascent=0.6, steps=30)
    evidence = evidence_of(facts, first + np.linspace(0, 1, 40))
    evidence.ended = True
    finding = ask("gradient-ascent", evidence)
    assert (finding is not None) == told


@pytest.mark.parametrize(("logged", "told"), [("reward", False), ("train_loss", True), (None, True)])
def test_who_logs_a_reward_makes_it_large_on_purpose(logged: str | None, told: bool) -> None:
    facts = ParameterFacts(maximized_share=1.0, ascent=0.6, steps=30)
    evidence = evidence_of(facts, 2.0 + np.linspace(0, 1, 40))
    assert ask("gradient-ascent", evidence) is None
    evidence.ended = True
    if logged:
        evidence.curves[f"logged/{logged}"] = evidence.curves["loss"]
    assert (ask("gradient-ascent", evidence) is not None) == told


@pytest.mark.parametrize(("trained", "frozen", "told"), [(["net.2.weight"], 900, True), ([], 900, False)])
def test_the_negative_of_a_loss_is_meant_where_all_weights_are_frozen(
    trained: list[str], frozen: int, told: bool
) -> None:
    evidence = evidence_of(ParameterFacts(trainable=100, frozen=frozen), -np.ones(5))
    evidence.operations = OperationFacts(traced=1, loss=-1.0, terms=[LossTerm("cross_entropy", value=1.0)])
    evidence.layers = LayerFacts(weights=[WeightFact(name, 1, 0.1, 0.1) for name in trained])
    assert (ask("gradient-ascent", evidence) is not None) == told


def test_a_multiplier_that_is_maximized_is_no_ascent() -> None:
    assert ask("gradient-ascent", evidence_of(ParameterFacts(maximized_share=0.01, ascent=-0.5), np.ones(40))) is None


@pytest.mark.parametrize(("scheduled", "step", "told"), [(False, 2, True), (True, 40, False), (True, 250, True)])
def test_a_rate_of_zero_is_waited_for_where_a_schedule_runs(scheduled: bool, step: int, told: bool) -> None:
    facts = ParameterFacts(zero_rate_share=1.0, zero_rate_steps=min(step, 9), scheduled=scheduled)
    evidence = evidence_of(facts, step=step)
    evidence.planned_steps = 1000
    assert (ask("learning-rate-zero", evidence) is not None) == told


def test_a_group_frozen_by_its_rate_is_silent() -> None:
    assert ask("learning-rate-zero", evidence_of(ParameterFacts(zero_rate_share=0.9, zero_rate_steps=50))) is None


def test_what_a_warm_up_has_not_moved_yet_is_waited_for() -> None:
    facts = ParameterFacts(still_numbers=0.95, still_steps=40, still_dtype="bfloat16", steps=40)
    warming, flat = evidence_of(facts), evidence_of(facts)
    warming.curves["lr"] = Curve(range(40), np.linspace(0, 1e-3, 40))
    flat.curves["lr"] = Curve(range(40), np.full(40, 1e-6))
    assert ask("parameters-do-not-move", warming) is None
    assert ask("parameters-do-not-move", flat) is not None


def test_weight_decay_is_the_cause_only_where_the_loss_does_not_fall() -> None:
    facts = ParameterFacts(decay_pull=0.99, norm_ratio=0.1)
    groups = [OptimizerSettings("AdamW", 1e-3, 3.0)]
    stuck = ask("weight-decay-too-strong", evidence_of(facts, np.full(60, 1.6), optimizers=groups))
    assert stuck is not None
    assert stuck.remedy.startswith("weight_decay=0.003")
    assert ask("weight-decay-too-strong", evidence_of(facts, np.linspace(1.6, 0.5, 60), optimizers=groups)) is None
    converged = ParameterFacts(decay_pull=0.99, norm_ratio=1.8)
    assert ask("weight-decay-too-strong", evidence_of(converged, np.full(60, 0.1), optimizers=groups)) is None


def test_a_loss_with_its_sign_turned_is_named_by_its_term() -> None:
    from stablelit.doctor.evidence.operations import LossTerm, OperationFacts

    evidence = evidence_of(ParameterFacts(), [-1.6, -1.7], automatic=True)
    evidence.operations = OperationFacts(loss=-1.6, terms=[LossTerm("cross_entropy", value=1.6)])
    finding = ask("gradient-ascent", evidence)
    assert finding is not None
    assert finding.evidence["term"] == "cross_entropy"
    evidence.settings.automatic = False
    assert ask("gradient-ascent", evidence) is None
