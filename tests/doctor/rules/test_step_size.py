"""Rates that are too high or too low and clips that are too tight, on real little trainings beside healthy ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rules._words import one_digit
from stablelit.doctor.rules.clipping import clip_never_active, clip_too_tight
from stablelit.doctor.rules.rate_too_high import growth_before_failure, rate_too_high
from stablelit.doctor.rules.rate_too_low import rate_too_low
from tests.doctor.rules.trainings import told, train, with_loss

# trainings, of seconds each
pytestmark = pytest.mark.slow

HEALTHY: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam-fast": {"rate": 2e-2},
    "sgd": {"kind": "SGD", "rate": 0.1},
    "noisy-labels": {"noise": 0.5},
    "batch-of-four": {"batch": 4, "rate": 1e-3},
    "tight-clip-sgd": {"kind": "SGD", "rate": 0.5, "clip": 0.1},
    "tight-clip-adam": {"clip": 1e-3},
    "plateau-before-a-drop": {
        "kind": "SGD",
        "rate": 0.2,
        "noise": 0.5,
        "factor": lambda step: 0.1 if step > 150 else 1,
    },
    "warmup-cosine": {"factor": lambda step: min(1, step / 20) * 0.5 * (1 + math.cos(math.pi * step / 200))},
}
FAULTY: dict[str, tuple[str, dict[str, Any]]] = {
    "adam-x100": ("learning-rate-too-high", {"rate": 0.3}),
    "adam-x300": ("learning-rate-too-high", {"rate": 1.0}),
    "sgd-x100": ("learning-rate-too-high", {"kind": "SGD", "rate": 10.0}),
    "adam-over-1000": ("learning-rate-too-low", {"rate": 3e-6}),
    "sgd-over-1000": ("learning-rate-too-low", {"kind": "SGD", "rate": 1e-4}),
    "clip-sgd": ("clip-too-tight", {"kind": "SGD", "rate": 0.1, "clip": 1e-4}),
}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["seed-0", "seed-1"])
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_a_run_that_learns(name: str, seed: int) -> None:
    assert told(train(seed, **HEALTHY[name])) == []


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["seed-0", "seed-1"])
@pytest.mark.parametrize("name", FAULTY)
def test_the_cause_is_named_first(name: str, seed: int) -> None:
    cause, faulty = FAULTY[name]
    assert told(train(seed, **faulty))[:1] == [cause]


@pytest.mark.parametrize("rate", [0.3, 3e-6], ids=["too-high", "too-low"])
def test_the_rate_to_try_is_one_that_learns(rate: float) -> None:
    evidence = train(0, rate=rate)
    finding = rate_too_high(evidence) or rate_too_low(evidence)
    assert finding is not None
    key, _, value = finding.remedy.partition("=")
    assert key == "learning_rate"
    mended = train(0, rate=float(value))
    assert told(mended) == []
    assert np.median(mended.curve("loss").values[-20:]) < 0.5 * np.median(evidence.curve("loss").values[-20:])


def test_a_loss_that_grew_and_failed_is_told_from_one_that_failed_at_once() -> None:
    grown = Curve(range(6), [1.0, 3.0, 40.0, 1e4, 1e20, math.nan])
    sudden = Curve(range(6), [1.0, 0.9, 0.8, 0.85, 0.8, math.nan])
    assert growth_before_failure(grown) == (1e20, 1e20)
    assert growth_before_failure(sudden) is None
    assert growth_before_failure(Curve(range(3), [1.0, 2.0, 50.0])) is None
    finding = rate_too_high(Evidence(step=6, curves={"loss": grown}))
    assert finding is not None
    assert finding.severity == "critical"
    assert rate_too_high(Evidence(step=6, curves={"loss": sudden})) is None


def test_a_matrix_that_began_as_zeros_is_no_large_step() -> None:
    evidence = with_loss(np.full(100, 2.0) + 0.01 * np.random.default_rng(0).normal(size=100))
    # of zeros, Adam's steps 2, 3, 4 are 1, 1/2, 1/3 of the matrix
    evidence.curves["update_ratio"] = Curve(range(5), [0.02, 1.0, 0.5, 0.33, 0.25])
    evidence.curves["weight_norm"] = Curve(range(5), [6.0, 6.01, 6.02, 6.03, 6.04])
    assert rate_too_high(evidence) is None


def test_weights_that_begin_next_to_nil_grow_to_their_size_at_any_rate() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    evidence = with_loss(np.r_[1.0, 1.6 + 0.3 * noise[1:]])
    evidence.curves["update_ratio"] = Curve(range(5), [69.0, 0.9, 0.6, 0.5, 0.4])
    evidence.curves["weight_norm"] = Curve(range(5), [1.0, 2.0, 3.5, 5.0, 6.5])
    assert rate_too_high(evidence) is not None
    evidence.curves["relative_step"] = Curve(range(5), [0.1] * 5)
    assert rate_too_high(evidence) is None


def test_a_rate_that_still_warms_up_is_not_judged_too_low() -> None:
    evidence = train(0, rate=3e-3, factor=lambda step: (step + 1) / 1e5)
    assert rate_too_low(evidence) is None
    evidence.curves["lr"] = Curve(evidence.curve("lr").steps, np.full(200, 6e-6))
    assert rate_too_low(evidence) is not None


def test_a_long_run_gives_a_small_rate_its_time() -> None:
    short, long = train(0, rate=3e-6), train(0, rate=3e-6)
    long.planned_steps = 200_000
    assert rate_too_low(short) is not None
    assert rate_too_low(long) is None


@pytest.mark.parametrize("clip", [1e-4, 1e-3], ids=["far", "less-far"])
def test_a_clip_to_try_lets_usual_gradients_pass(clip: float) -> None:
    evidence = train(0, kind="SGD", rate=0.1, clip=clip)
    finding = clip_too_tight(evidence)
    assert finding is not None
    value = float(finding.remedy.partition("=")[2])
    assert value > np.median(evidence.curve("grad_norm").values)


def test_a_clip_that_no_gradient_reached_is_a_note_at_the_end() -> None:
    evidence = train(0, clip=1e3)
    assert clip_never_active(evidence) is None
    evidence.ended = True
    finding = clip_never_active(evidence)
    assert finding is not None
    assert finding.severity == "info"
    tight = train(0, clip=1.0)
    tight.ended = True
    assert clip_never_active(tight) is None


def test_one_digit() -> None:
    assert [one_digit(v) for v in (0.00123, 0.0096, 3.0)] == [0.001, 0.01, 3.0]
