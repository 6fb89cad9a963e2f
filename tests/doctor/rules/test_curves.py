"""What is said of the loss itself, where no cause is known, and of overfitting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.doctor.evidence import Curve, Evidence, OperationFacts
from stablelit.doctor.evidence.operations import LossTerm
from stablelit.doctor.rules.curves import (
    CURVE_RULES,
    loss_diverges,
    loss_not_finite,
    loss_oscillates,
    loss_spike,
    not_learning,
    plateau,
)
from stablelit.doctor.rules.overfitting import overfitting
from stablelit.doctor.rules.schedules import SCHEDULE_RULES
from tests.doctor.rules.trainings import told, train, with_loss

# trainings, of seconds each
pytestmark = pytest.mark.slow

SEEDS = [0, 1, 2]
SEED_NAMES = ["seed-0", "seed-1", "seed-2"]


def falling(n: int, seed: int = 0, noise: float = 0.1) -> np.ndarray:
    """From 2.5 to 0.5."""
    return 0.5 + 2.0 * np.exp(-np.arange(n) / (n / 8)) + noise * np.random.default_rng(seed).normal(size=n)


def flat(n: int, level: float, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    return level + noise * np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5], ids=["small", "one", "large"])
@pytest.mark.parametrize("shift", [0.0, -1.0, -3.0], ids=["above-zero", "crossing-zero", "below-zero"])
def test_nothing_is_said_of_a_loss_that_falls_at_any_scale(seed: int, scale: float, shift: float) -> None:
    evidence = with_loss(scale * (falling(300, seed) + shift))
    assert [
        rule.name for rule in (*CURVE_RULES, *SCHEDULE_RULES) if rule.can_check(evidence) and rule.check(evidence)
    ] == []


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
def test_labels_without_a_pattern_are_not_learned(seed: int) -> None:
    assert told(train(seed, shuffle_labels=True)) == ["not-learning"]


def test_a_rise_that_follows_a_schedule_of_the_objective_is_no_divergence() -> None:
    values = np.concatenate([falling(150), 0.5 + np.linspace(0.0, 1.9, 150)])
    evidence = with_loss(values)
    finding = loss_diverges(evidence)
    assert finding is not None
    assert finding.evidence["loss_best"] == pytest.approx(0.5, abs=0.1)
    evidence.curves["logged/kl_weight"] = Curve(range(0, 300, 30), np.linspace(0.0, 1.0, 10))
    assert loss_diverges(evidence) is None


def test_a_loss_that_rises_above_its_start_diverges() -> None:
    values = 2.0 + 0.05 * np.arange(200) + flat(200, 0.0)
    finding = loss_diverges(with_loss(values))
    assert finding is not None
    assert finding.severity == "critical"
    assert loss_diverges(with_loss(values[::-1].copy())) is None
    assert loss_diverges(with_loss(flat(200, 2.0, noise=1.0))) is None, "noise is no rise"


@pytest.mark.parametrize(
    ("values", "severity"),
    [
        ([2.0, 1.9, math.nan], "critical"),
        ([2.0, math.inf, math.nan], "critical"),
        ([2.0, math.nan, 1.8, 1.7], "warning"),
    ],
    ids=["now", "since-then", "once"],
)
def test_a_loss_that_is_not_finite_is_told_at_once(values: list[float], severity: str) -> None:
    evidence = Evidence(step=len(values), ended=True, curves={"loss/0": Curve(range(len(values)), values)})
    finding = loss_not_finite(evidence)
    assert finding is not None
    assert finding.severity == severity
    assert finding.evidence["first_step"] == next(i for i, v in enumerate(values) if not math.isfinite(v))


def test_how_a_loss_failed_is_in_the_message() -> None:
    grown = loss_not_finite(with_loss(np.array([1.0, 5.0, 90.0, 1e9, math.inf]), optimizers=[]))
    sudden = loss_not_finite(with_loss(np.array([1.0, 0.9, 0.8, math.nan])))
    assert grown is not None
    assert sudden is not None
    assert "grown" in grown.message
    assert "one step to the next" in sudden.message
    assert loss_not_finite(with_loss(falling(50))) is None


def test_a_spike_that_comes_back_is_a_note() -> None:
    values = falling(300)
    values[250] += 5.0
    finding = loss_spike(with_loss(values))
    assert finding is not None
    assert finding.severity == "info"
    heavy = falling(300) + 0.1 * np.random.default_rng(0).standard_t(2, size=300)
    assert loss_spike(with_loss(heavy)) is None or np.abs(heavy).max() > 3.0


def test_a_flat_loss_above_what_it_held_is_a_plateau_and_a_converged_one_is_none() -> None:
    lost = np.concatenate([falling(150, noise=0.05), flat(150, 1.4)])
    assert plateau(with_loss(lost)) is not None
    assert plateau(with_loss(np.concatenate([falling(150, noise=0.05), flat(150, 0.5)]))) is None


def test_wide_swings_that_lead_nowhere_are_told_from_noise() -> None:
    swings = 2.0 + np.sin(np.arange(400) / 12) + flat(400, 0.0)
    finding = loss_oscillates(with_loss(swings))
    assert finding is not None
    assert finding.evidence["swing"] == pytest.approx(math.sin(math.pi / 4), rel=0.3), "the median of |sin|"
    assert loss_oscillates(with_loss(flat(400, 2.0, noise=1.0))) is None


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
def test_a_loss_that_stands_where_it_began_is_not_learned(seed: int) -> None:
    assert not_learning(with_loss(flat(200, 2.3, seed))) is not None
    assert not_learning(with_loss(flat(200, 2.3, seed), planned=2000)) is None, "a tenth of a run may be a plateau"
    assert not_learning(with_loss(flat(200, 2.3, seed) - np.linspace(0, 0.3, 200))) is None
    assert not_learning(with_loss(flat(200, 2.3, seed, noise=1.0))) is None, "noise hides what is learned"


def test_a_known_level_of_chance_tells_a_converged_run_from_one_that_does_not_learn() -> None:
    converged = with_loss(flat(200, 0.8, noise=0.01))
    assert not_learning(converged) is not None
    term = LossTerm("cross_entropy", value=0.8, alone=True, classes=10, target_leaf="batch[1]")
    converged.operations = OperationFacts(traced=1, loss=0.8, terms=[term])
    assert not_learning(converged) is None


def test_a_run_that_is_taken_up_again_has_no_start() -> None:
    evidence = with_loss(flat(200, 2.3))
    evidence.curves["loss"] = Curve(range(5000, 5200), flat(200, 2.3))
    evidence.step = evidence.planned_steps = 5200
    assert not_learning(evidence) is None


def _validated(validation: np.ndarray, ended: bool = True) -> Evidence:
    evidence = with_loss(falling(20 * len(validation)))
    evidence.curves["val_loss"] = Curve(np.arange(1, len(validation) + 1) * 20, validation)
    evidence.ended = ended
    return evidence


def test_overfitting_warns_where_what_was_gained_is_lost_and_is_a_note_before() -> None:
    down, steps = np.linspace(2.0, 1.0, 5), np.arange(1, 16)
    lost = overfitting(_validated(np.concatenate([down, 1.0 + 0.1 * steps])))
    mild = overfitting(_validated(np.concatenate([down, 1.0 + 0.02 * steps])))
    assert lost is not None
    assert (lost.severity, lost.evidence["best_step"]) == ("warning", 100)
    assert mild is not None
    assert mild.severity == "info"
    assert overfitting(_validated(np.concatenate([down, 1.0 + 0.02 * steps]), ended=False)) is None
    assert overfitting(_validated(np.concatenate([down, flat(15, 1.05)]))) is None
    assert overfitting(_validated(np.linspace(2.0, 1.0, 20))) is None


def test_logs_of_every_fiftieth_step_and_of_epochs_are_judged_too() -> None:
    for points, spacing in ((20, 50), (12, 500)):
        steps = np.arange(1, points + 1) * spacing - 1
        evidence = Evidence(origin="logs", ended=True, curves={"loss": Curve(steps, 2.0 + 0.3 * np.arange(points))})
        assert loss_diverges(evidence) is not None
        evidence.curves["loss"] = Curve(steps, 2.0 * np.exp(-np.arange(points) / 5))
        names = [rule.name for rule in CURVE_RULES if rule.can_check(evidence) and rule.check(evidence)]
        assert names == []
