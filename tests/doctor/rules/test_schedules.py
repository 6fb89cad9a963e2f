"""Schedules as they are meant, and as they go wrong: stepped by the wrong thing, too short, too long, too often."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings, Settings
from stablelit.doctor.rules._rate_course import returns, vanishes, warmup_end
from stablelit.doctor.rules.schedules import SCHEDULE_RULES, ends_early, steps_wrong
from tests.doctor.rules.trainings import told, train

PER_EPOCH, EPOCHS = 50, 20
TOTAL = PER_EPOCH * EPOCHS


def cosine(length: float) -> Callable[[float], float]:
    return lambda t: 0.5 * (1 + math.cos(math.pi * t / length))


def evidence_of(factor: Callable[[float], float], schedule: str, steps: int = TOTAL, rate: float = 1e-3) -> Evidence:
    """A loss that falls as long as there is a rate, by as much as there is of it."""
    unit = 1 if schedule.endswith("/step") else PER_EPOCH
    rates = np.array([rate * factor(t // unit) for t in range(steps)])
    noise = 0.02 * np.random.default_rng(0).normal(size=steps)
    loss = 0.2 + 2.0 * np.exp(-np.cumsum(rates) / rate / 150) + noise
    return Evidence(
        step=steps,
        planned_steps=TOTAL,
        curves={"lr": Curve(range(steps), rates), "loss": Curve(range(steps), loss)},
        settings=Settings(
            schedules=[schedule],
            steps_per_epoch=PER_EPOCH,
            max_epochs=EPOCHS,
            optimizers=[OptimizerSettings("Adam", rate, parameters=100)],
        ),
    )


def found(evidence: Evidence) -> list[str]:
    return [rule.name for rule in SCHEDULE_RULES if rule.can_check(evidence) and rule.check(evidence)]


HEALTHY = {
    "constant": (lambda t: 1.0, "ConstantLR/step"),
    "cosine-steps": (cosine(TOTAL), "CosineAnnealingLR/step"),
    "cosine-epochs": (cosine(EPOCHS), "CosineAnnealingLR/epoch"),
    "cosine-half": (cosine(1.5 * TOTAL), "CosineAnnealingLR/step"),
    "drops": (lambda t: 0.1 ** ((t >= 0.5 * TOTAL) + (t >= 0.75 * TOTAL) + (t >= 0.9 * TOTAL)), "MultiStepLR/step"),
    "drops-epochs": (lambda t: 0.5 ** (t // 5), "StepLR/epoch"),
    "exponential": (lambda t: 0.01 ** (t / TOTAL), "ExponentialLR/step"),
    "warmup": (lambda t: min(1.0, (t + 1) / 100), "LambdaLR/step"),
    "warmup-half": (lambda t: min(1.0, (t + 1) / 500), "LambdaLR/step"),
    "warmup-epochs": (lambda t: min(1.0, (t + 1) / 5), "LambdaLR/epoch"),
    "one-cycle": (lambda t: min(0.04 + t / 300, max(0.0, (TOTAL - t) / 700)), "OneCycleLR/step"),
    "restarts": (lambda t: cosine(200)(t % 200), "CosineAnnealingWarmRestarts/step"),
    "restarts-of-two-epochs": (lambda t: cosine(100)(t % 100), "CosineAnnealingWarmRestarts/step"),
    "cyclic": (lambda t: 0.1 + 0.9 * abs(t % 200 - 100) / 100, "CyclicLR/step"),
}
FAULTY = {
    "cosine-of-epochs-per-step": (cosine(EPOCHS), "CosineAnnealingLR/step", "schedule-steps-wrong"),
    "cosine-of-steps-per-epoch": (cosine(TOTAL), "CosineAnnealingLR/epoch", "schedule-steps-wrong"),
    "drops-of-epochs-per-step": (lambda t: 0.1 ** (t // 8), "StepLR/step", "schedule-steps-wrong"),
    "warmup-of-steps-per-epoch": (lambda t: min(1.0, (t + 1) / 100), "LambdaLR/epoch", "schedule-steps-wrong"),
    "restarts-every-six": (
        lambda t: cosine(6)(t % 6),
        "CosineAnnealingWarmRestarts/step",
        "schedule-restarts-too-often",
    ),
    "cosine-of-a-tenth": (lambda t: cosine(100)(min(t, 100)), "LambdaLR/step", "schedule-ends-early"),
    "drops-every-forty": (lambda t: 0.1 ** (t // 40), "StepLR/step", "schedule-ends-early"),
    "exponential-of-a-fifth": (lambda t: 0.95**t, "ExponentialLR/step", "schedule-ends-early"),
    "warmup-of-three-runs": (lambda t: min(1.0, (t + 1) / (3 * TOTAL)), "LambdaLR/step", "warmup-longer-than-run"),
    "warmup-of-a-run-and-a-fifth": (
        lambda t: min(1.0, (t + 1) / (1.2 * TOTAL)),
        "LambdaLR/step",
        "warmup-longer-than-run",
    ),
}


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0], ids=["early", "later", "ended"])
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_a_schedule_as_it_is_meant(name: str, share: float) -> None:
    factor, schedule = HEALTHY[name]
    assert found(evidence_of(factor, schedule, int(share * TOTAL))) == []


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_wrong_with_a_schedule_is_said_by_one_rule(name: str) -> None:
    factor, schedule, cause = FAULTY[name]
    assert found(evidence_of(factor, schedule)) == [cause]
    assert found(evidence_of(factor, schedule, TOTAL // 2)) == [cause], "half way it is known as well"


@pytest.mark.slow
def test_real_trainings_are_judged_alike() -> None:
    assert told(train(factor=cosine(10), schedule="CosineAnnealingLR/step"))[:1] == ["schedule-steps-wrong"]
    assert told(train(rate=1e-3, factor=lambda t: max(0.0, 1 - t / 25)))[:1] == ["schedule-ends-early"]


def test_a_rate_that_goes_where_the_loss_is_flat_has_not_ended_early() -> None:
    evidence = evidence_of(lambda t: 0.1 ** (t // 400), "ReduceLROnPlateau/step")
    evidence.curves["loss"] = Curve(range(TOTAL), 0.3 + 0.02 * np.random.default_rng(1).normal(size=TOTAL))
    evidence.curves["lr"] = Curve(range(TOTAL), [1e-3 * 0.1 ** (t // 150) for t in range(TOTAL)])
    assert ends_early(evidence) is None


def test_the_remedy_has_the_length_of_the_run() -> None:
    finding = ends_early(evidence_of(lambda t: 0.1 ** (t // 40), "StepLR/step"))
    assert finding is not None
    assert str(TOTAL) in finding.remedy
    wrong = steps_wrong(evidence_of(cosine(EPOCHS), "CosineAnnealingLR/step"))
    assert wrong is not None
    assert '"interval": "epoch"' in wrong.remedy


def test_a_warmup_is_extrapolated_to_its_end() -> None:
    evidence = evidence_of(lambda t: min(1.0, (t + 1) / 400), "LambdaLR/step", 200)
    assert warmup_end(evidence) == pytest.approx(399, abs=1)
    assert warmup_end(evidence_of(lambda t: min(1.0, (t + 1) / 400), "LambdaLR/step", 600)) is None


def test_a_rise_from_nothing_is_no_return() -> None:
    assert returns(Curve(range(50), np.minimum(1.0, np.arange(50) / 20))) is None
    assert returns(Curve(range(60), np.resize(np.linspace(1.0, 0.0, 10), 60))) == (5, 10.0)


def test_a_rate_that_is_gone_says_since_when() -> None:
    assert vanishes(Curve(range(40), [1.0] * 25 + [0.001] * 15)) == 25
    assert vanishes(Curve(range(40), [1.0] * 40)) is None
