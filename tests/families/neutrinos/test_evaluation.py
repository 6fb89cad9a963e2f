from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.families.neutrinos import evaluation
from stablelit.families.neutrinos.evaluation import DirectionEvaluation
from stablelit.families.neutrinos.event_batch import EVENT_LINE_FIT, assemble

N_EVENTS = 120
PICTURES = {"angular_error_by_pulse_count", "cumulative_angular_error", "kappa_calibration", "zenith"}


@pytest.fixture
def parts(random_events, detector):
    """Two batches, and a prediction for each."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for seed, n in ((0, 50), (1, N_EVENTS - 50)):
        batch = assemble(random_events(n, seed), np.arange(n), *detector)
        noise = 0.4 * torch.randn(n, 3, generator=generator)
        made.append((batch, 20.0 * (batch["direction"] + noise)))
    return made


def evaluated(parts, constant=None) -> tuple[DirectionEvaluation, dict[str, float]]:
    made = DirectionEvaluation()
    made.begin(constant)
    for batch, f in parts:
        made.add(batch, f)
    return made, {name: float(value) for name, value in made.finish().items()}


def angles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """By the arc cosine, in float64: another formula than ours, and exact enough far from 0 and pi."""
    cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    return np.arccos(cosine.clip(-1, 1))


def columns(parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    f = torch.cat([f for _, f in parts]).double().numpy()
    truth = torch.cat([batch["direction"] for batch, _ in parts]).double().numpy()
    fit = torch.cat([batch["events"][:, EVENT_LINE_FIT] for batch, _ in parts]).double().numpy()
    return f, truth, fit


def test_the_scores_of_two_batches_are_those_of_all_events_by_hand(parts):
    constant = np.array([0.6, 0.0, 0.8])
    _, scores = evaluated(parts, constant)
    f, truth, fit = columns(parts)
    error = angles(f, truth)
    assert scores["angular_error_mean_rad"] == pytest.approx(error.mean(), rel=1e-5)
    # from a histogram, so exact to the width of a bin only
    assert scores["angular_error_median_rad"] == pytest.approx(np.median(error), abs=0.01)
    assert scores["angular_error_68_rad"] == pytest.approx(np.quantile(error, 0.68), abs=0.02)
    assert scores["z_bias"] == pytest.approx(
        (f[:, 2] / np.linalg.norm(f, axis=1)).mean() - truth[:, 2].mean(), abs=1e-5
    )
    found = np.linalg.norm(fit, axis=1) > 0
    of_fit = np.full(len(fit), math.pi / 2)
    of_fit[found] = angles(fit[found], truth[found])
    assert scores["angular_error_mean_rad_baseline"] == pytest.approx(of_fit.mean(), rel=1e-5)
    assert scores["constant_error_mean_rad"] == pytest.approx(angles(constant[None], truth).mean(), rel=1e-5)


def test_the_share_of_events_within_what_kappa_promises_is_counted_by_hand(parts):
    _, scores = evaluated(parts)
    f, truth, _ = columns(parts)
    kappa = np.linalg.norm(f, axis=1)
    # the probability of a smaller angle, C(kappa) 2 pi (e^kappa - e^(kappa cos)) / kappa
    within = -np.expm1(-kappa * (1 - np.cos(angles(f, truth)))) / -np.expm1(-2 * kappa)
    for level in (50, 68, 90):
        assert scores[f"coverage_{level}"] == pytest.approx((within <= level / 100).mean(), abs=0.02)


def test_without_a_constant_direction_there_is_no_comparison_with_one(parts):
    assert "constant_error_mean_rad" not in evaluated(parts)[1]


@pytest.mark.slow
def test_an_evaluation_begins_with_nothing_and_keeps_the_last_pictures(parts):
    made, first = evaluated(parts)
    shown = made.figures()
    made.begin()
    assert set(made.figures()) == set(shown) == PICTURES
    batch, f = parts[0]
    made.add(batch, -f)
    second = made.finish()
    assert float(second["angular_error_mean_rad"]) == pytest.approx(
        angles(-f.numpy(), batch["direction"].numpy()).mean(), rel=1e-5
    )
    assert float(second["angular_error_mean_rad"]) > first["angular_error_mean_rad"]


def test_before_an_evaluation_there_is_no_picture():
    assert DirectionEvaluation().figures() == {}


def test_directions_that_are_not_finite_are_a_finding_and_no_crash(parts):
    batch, f = parts[1]
    broken = f.clone()
    broken[3] = torch.nan
    made, scores = evaluated([parts[0], (batch, broken)])
    assert [finding.name for finding in made.findings] == ["directions-not-finite"]
    assert math.isnan(scores["angular_error_mean_rad"])
    assert set(made.figures()) == PICTURES


def test_one_direction_for_all_events_is_a_finding(parts):
    up = torch.tensor([0.0, 0.0, 5.0])
    f, truth, _ = columns(parts)
    mean = truth.mean(0) / np.linalg.norm(truth.mean(0))
    made, _ = evaluated([(batch, up.expand(len(f), 3)) for batch, f in parts], mean)
    assert [finding.name for finding in made.findings] == ["directions-collapsed", "no-better-than-constant"]


def test_a_picture_does_not_keep_all_events_of_a_large_set(parts, monkeypatch):
    monkeypatch.setattr(evaluation, "SHOWN", 40)
    made, scores = evaluated(parts)
    assert made._n_kept == 50
    f, truth, _ = columns(parts)
    assert scores["angular_error_mean_rad"] == pytest.approx(angles(f, truth).mean(), rel=1e-5)


def test_predictions_in_half_precision_are_scored_in_full(parts):
    half = [(batch, f.bfloat16()) for batch, f in parts]
    _, scores = evaluated(half)
    f, truth, _ = columns(half)
    assert scores["angular_error_mean_rad"] == pytest.approx(angles(f, truth).mean(), rel=1e-5)
