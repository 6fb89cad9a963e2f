from __future__ import annotations

import math
import random

import pytest

from stablelit.callbacks._posterior_findings import FIELDS, judge, reduction_suspect

NAN = math.nan


def record(**known):
    return {field: float(known.get(field, NAN)) for field in FIELDS}


def names(history, patience=5, cap=None, suspect=None):
    return [finding.name for finding in judge(history, patience, cap, suspect or {})]


def ever(history, **kwargs):
    """What is found at any time of a run."""
    return {name for end in range(1, len(history) + 1) for name in names(history[:end], **kwargs)}


def test_a_dead_code_is_a_collapse_after_patience_and_not_before():
    history = [record(weight=1, kl=0.04, active=0, dims=8)] * 5
    assert names(history) == ["posterior-collapse"]
    assert names(history[:4]) == []


@pytest.mark.parametrize(
    "alive",
    [
        [record(weight=1, kl=5.0, active=5, dims=128)] * 20,  # a wide code that uses few units well
        [record(weight=1, kl=0.8, active=1, dims=64)] * 20,  # two groups of samples, told apart: ln 2
        [record(weight=0, kl=0.01, active=0, dims=8)] * 20,  # the KL does not count yet
        [record(weight=1, kl=0.002 * 1.3**i, active=1, dims=8) for i in range(15)],  # slow to begin, and rising
        [record(weight=1, kl=0.3, active=2, dims=8)] * 20,
    ],
    ids=["few-units", "one-bit", "weight-0", "rising", "small"],
)
def test_a_code_that_says_something_is_no_collapse(alive):
    assert ever(alive) == set()


def run(epochs, seed=0, **curves):
    draw = random.Random(seed)
    base = {"weight": lambda e: 1.0, "kl_share": lambda e: 0.3, "active": lambda e: 8, "dims": lambda e: 8}
    return [
        record(**{name: curve(e) + (draw.gauss(0, 0.3) if name == "neg_elbo" else 0.0) for name, curve in
                  {**base, **curves}.items()})
        for e in range(epochs)
    ]  # fmt: skip


FALLING = {"recon": lambda e: 60 + 40 * math.exp(-e / 20), "loss": lambda e: 70 + 40 * math.exp(-e / 20)}
TURNING = {"neg_elbo": lambda e: 80 + 30 * math.exp(-e / 8) + 0.15 * max(0, e - 25)}


def test_validation_that_turns_while_the_kl_grows_is_over_coding():
    assert ever(run(60, kl=lambda e: 8 + 0.3 * e, **FALLING, **TURNING)) == {"over-coding"}


def test_validation_that_turns_at_a_steady_kl_is_overfitting():
    assert ever(run(60, kl=lambda e: 10.0, **FALLING, **TURNING)) == {"overfitting"}
    assert ever(run(60, **{"loss": FALLING["loss"], **TURNING})) == {"overfitting"}


def test_a_training_that_does_not_fall_any_more_is_no_overfitting():
    assert ever(run(60, kl=lambda e: 10.0, recon=lambda e: 60.0, **TURNING)) == set()


def test_noise_is_no_overfitting():
    # 20 runs of 150 epochs, judged at each: validation a flat line with noise, training falling throughout
    alarms = sum(
        "overfitting" in ever(run(150, seed=seed, kl=lambda e: 10.0, neg_elbo=lambda e: 80.0, **FALLING))
        for seed in range(20)
    )
    assert alarms == 0


CAPPED = {
    "weight": lambda e: 1e-4,
    "kl_share": lambda e: 0.005,
    "kl": lambda e: 8.0 + 1.5 * e,
    "recon": lambda e: 1.3 - 0.001 * e,
    "loss": lambda e: 1.3,
}


def test_a_small_cap_under_a_growing_kl_is_ineffective():
    assert ever(run(20, **CAPPED), cap=1e-4) == {"cap-ineffective"}
    assert ever(run(20, **CAPPED)) == {"cap-ineffective"}
    (finding,) = judge(run(20, **CAPPED), 5, 1e-4, {})
    assert "a lower cap makes it worse" in finding.message
    assert "max_weight=1.0" in finding.remedy


@pytest.mark.parametrize(
    "healthy",
    [
        {"weight": lambda e: 1.0},  # the bound itself: a young model's KL grows
        {"kl_share": lambda e: 0.3},  # the term has hold of the loss
        {"recon": lambda e: 200 - 4.0 * e},  # the nats are paid for
        {"kl": lambda e: 30 - 22 * math.exp(-e / 2)},  # it has found its level
        {"weight": lambda e: 1e-4 * e},  # a warm-up
    ],
    ids=["full-weight", "holds", "paid", "level", "warmup"],
)
def test_a_kl_that_grows_for_good_reason_is_no_ineffective_cap(healthy):
    assert names(run(20, **{**CAPPED, **healthy})) == []


def test_a_weight_below_its_cap_is_not_at_its_cap():
    assert names(run(20, **CAPPED), cap=1.0) == []


def test_a_mean_over_features_beside_a_summed_kl_is_told_where_it_did_its_work():
    suspect = reduction_suspect(recon=0.9, variance=0.8, features=784)
    history = [record(weight=1, kl=0.5, active=3, dims=8)] * 2
    assert names(history, suspect=suspect) == ["reduction-mismatch"]
    assert names(history[:1], suspect=suspect) == []
    assert names([record(weight=1 / 784, kl=12, active=8, dims=8)] * 2, suspect=suspect) == []
    assert names([record(weight=1, kl=300, active=8, dims=8)] * 2, suspect=suspect) == []


@pytest.mark.parametrize(
    ("recon", "variance", "features"),
    [(700.0, 0.8, 784), (-3.0, 1.0, 90), (0.9, 0.8, 10), (0.5, 0.0, 100), (NAN, 1.0, 100)],
    ids=["a-sum", "a-density", "few-features", "no-data", "not-a-number"],
)
def test_what_is_no_suspect(recon, variance, features):
    assert reduction_suspect(recon, variance, features) == {}
