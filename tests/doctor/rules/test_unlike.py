"""Validation that is another task, rows that are few, and targets that never vary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings, Settings
from stablelit.doctor.evidence.batches import BatchFacts, LabelFacts, LeafFacts, RowFacts
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.probes.batches_moments import LeafBook
from stablelit.doctor.rules import RULES
from stablelit.doctor.rules.unlike import features_in_another_order

BY_NAME = {rule.name: rule for rule in RULES}
MEANS, SPREADS = [1.0, -1.0, 0.0, 4.0], [1.0, 3.0, 0.5, 1.0]


def says(name: str, evidence: Evidence) -> bool:
    rule = BY_NAME[name]
    return rule.can_check(evidence) and rule.check(evidence) is not None


def facts_of(order: list[int], seed: int, shift: float = 0.0) -> LeafFacts:
    rows = torch.randn(12, 32, 4, generator=torch.Generator().manual_seed(seed))
    rows = (rows * torch.tensor(SPREADS) + torch.tensor(MEANS) + shift)[..., order]
    book = LeafBook("x", rows[0])
    for batch in rows:
        book.add(batch)
    book.facts.role = "input"
    return book.facts


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("order", "shift", "told"),
    [([0, 1, 2, 3], 0.0, False), ([3, 1, 2, 0], 0.0, True), ([1, 2, 3, 0], 0.0, True), ([0, 1, 2, 3], 2.0, False)],
    ids=["the-same", "two-exchanged", "all-moved", "shifted"],
)
def test_columns_of_validation_that_are_others(order: list[int], shift: float, told: bool, seed: int) -> None:
    batches = BatchFacts(looks=12, validation_looks=12, leaves={"x": facts_of([0, 1, 2, 3], seed)})
    batches.validation = {"x": facts_of(order, seed + 100, shift)}
    assert (features_in_another_order(Evidence(batches=batches)) is not None) == told


def two_classes(first_epoch: float, validation: list[float]) -> Evidence:
    noise = 0.02 * np.random.default_rng(0).standard_normal(200)
    loss = np.concatenate([np.linspace(0.7, first_epoch, 20), np.full(20, first_epoch), np.full(160, 0.1)]) + noise
    evidence = Evidence(step=200, planned_steps=200, settings=Settings(steps_per_epoch=40))
    evidence.curves = {"loss": Curve(range(200), loss), "val_loss": Curve(range(39, 240, 40), validation)}
    term = LossTerm("cross_entropy", value=0.7, alone=True, target_leaf="y", classes=2)
    evidence.operations = OperationFacts(traced=1, loss=0.7, terms=[term])
    evidence.batches = BatchFacts(looks=8, labels=LabelFacts("y", {0: 500, 1: 500}))
    return evidence


@pytest.mark.parametrize(
    ("first_epoch", "validation", "told"),
    [
        (0.3, [0.9, 1.2, 1.4, 1.5, 1.6, 1.7], True),
        (0.3, [0.4, 0.8, 1.2, 1.4, 1.5, 1.6], False),
        (0.68, [0.9, 1.2, 1.4, 1.5, 1.6, 1.7], False),
        (0.3, [0.35, 0.3, 0.2, 0.2, 0.2, 0.2], False),
    ],
    ids=["another-task", "overfitting", "learnt-by-heart", "sound"],
)
def test_new_rows_that_are_predicted_in_training_and_never_in_validation(
    first_epoch: float, validation: list[float], told: bool
) -> None:
    assert says("validation-is-another-task", two_classes(first_epoch, validation)) == told


@pytest.mark.parametrize(
    ("distinct", "twins", "told"),
    [(32, 224, True), (224, 0, False), (150, 130, False)],
    ids=["a-modulo", "all-different", "drawn-with-replacement"],
)
def test_few_different_rows_are_told_where_they_are_learnt_by_heart(distinct: int, twins: int, told: bool) -> None:
    evidence = two_classes(0.3, [0.5, 0.8, 1.2, 1.4, 1.5, 1.6])
    assert evidence.batches is not None
    rows = RowFacts(training=224, training_distinct=distinct, training_twins=twins, validation=100)
    evidence.batches.rows = rows
    assert says("few-different-rows", evidence) == told
    # rows that come often and teach what they should
    evidence.curves["val_loss"] = Curve(range(39, 240, 40), [0.4, 0.3, 0.2, 0.15, 0.12, 0.1])
    assert not says("few-different-rows", evidence)


@pytest.mark.parametrize(
    ("training", "validation", "told"), [(0.0, 1.0, True), (1.0, 1.0, False), (0.0, 0.0, False)],
    ids=["in-training-alone", "varies", "zero-everywhere"],
)  # fmt: skip
def test_a_target_that_never_varies_in_training(training: float, validation: float, told: bool) -> None:
    evidence = two_classes(0.3, [0.5] * 6)
    evidence.batches = BatchFacts(looks=8, leaves={"y": LeafFacts("y", "float", (32,), "target", 8, 256)})
    leaf = evidence.batches.leaves["y"]
    leaf.mean, leaf.std = [1.0], [training]
    evidence.batches.validation = {"y": LeafFacts("y", "float", mean=[1.0], std=[validation])}
    assert says("target-constant", evidence) == told


@pytest.mark.parametrize(
    ("momentum", "planned", "told"), [(0.999, 300, True), (0.9, 300, False), (0.99, 300, False), (0.999, 5000, False)]
)
def test_a_momentum_that_is_longer_than_the_run(momentum: float, planned: int, told: bool) -> None:
    group = OptimizerSettings("SGD", 0.1, momentum=momentum, trainable=10)
    evidence = Evidence(planned_steps=planned, settings=Settings(optimizers=[group]))
    assert says("momentum-too-long", evidence) == told


@pytest.mark.parametrize(
    ("epsilon", "late", "told"), [(1.0, 0.95, True), (1e-8, 0.95, False), (1.0, 0.1, False)],
    ids=["large-and-slow", "usual", "large-and-learns"],
)  # fmt: skip
def test_an_epsilon_far_above_the_gradient(epsilon: float, late: float, told: bool) -> None:
    group = OptimizerSettings("Adam", 1e-3, epsilon=epsilon, trainable=100)
    evidence = Evidence(step=200, planned_steps=200, settings=Settings(optimizers=[group]))
    evidence.parameters = ParameterFacts(looks=5)
    steps = range(0, 200, 20)
    evidence.curves = {
        "loss": Curve(range(200), np.linspace(1.0, late, 200)),
        "grad_norm": Curve(steps, [0.1] * 10),
        "update_ratio": Curve(steps, [1e-4] * 10),
    }
    assert says("epsilon-too-large", evidence) == told


@pytest.mark.parametrize(("loss", "told"), [(1.0, True), (0.0, False), (float("nan"), False)])
def test_a_loss_that_no_parameter_hears(loss: float, told: bool) -> None:
    evidence = Evidence(step=20, parameters=ParameterFacts(looks=5, steps=5, dark_looks=5))
    evidence.curves = {"loss": Curve(range(20), [loss] * 20)}
    assert says("parameters-without-gradient", evidence) == told


T = np.linspace(0.0, 1.0, 240)
COURSES = {
    "exponential": (1.0 - np.exp(16 * T), True),
    "at-the-end-of-numbers": (-1.0 - 1e21 * np.clip(T - 0.2, 0, 0.3), True),
    "likelihood": (5.0 - 40.0 * (1 - np.exp(-4 * T)), False),
    "late-start": (2.0 - 30.0 / (1 + np.exp(-20 * (T - 0.7))), False),
    "straight": (1.0 - 300.0 * T, False),
    "positive": (np.exp(-5 * T), False),
}


@pytest.mark.parametrize("course", list(COURSES))
def test_a_loss_without_a_lower_end_falls_ever_faster(course: str) -> None:
    values, told = COURSES[course]
    evidence = Evidence(step=240, planned_steps=240)
    evidence.curves = {"loss": Curve(range(240), values + 0.05 * np.random.default_rng(0).standard_normal(240))}
    assert says("loss-unbounded", evidence) == told


@pytest.mark.parametrize(("steps", "told"), [(8, True), (20, False)], ids=["in-all-steps", "in-some"])
def test_gradients_cleared_before_the_step(steps: int, told: bool) -> None:
    evidence = Evidence(step=20, parameters=ParameterFacts(looks=8, steps=steps, empty_steps=8))
    assert says("parameters-do-not-move", evidence) == told


@pytest.mark.parametrize(
    ("late", "validation", "told"),
    [(0.694, 0.70, True), (0.66, 0.70, False), (0.694, 0.67, False)],
    ids=["at-chance", "learnt-in-training", "learnt-in-validation"],
)
def test_a_loss_that_has_fallen_to_chance_has_learnt_nothing(late: float, validation: float, told: bool) -> None:
    evidence = two_classes(0.3, [validation] * 6)
    noise = 0.01 * np.random.default_rng(0).standard_normal(200)
    evidence.curves["loss"] = Curve(
        range(200), np.concatenate([np.linspace(1.1, late, 40), np.full(160, late)]) + noise
    )
    assert says("not-learning", evidence) == told
