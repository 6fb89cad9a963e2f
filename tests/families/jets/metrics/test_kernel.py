from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.jets.metrics import (
    KernelPhysicsDistance,
    energy_flow_polynomials,
    kernel,
    kernel_physics_distance,
)
from stablelit.families.jets.metrics.frechet import scaled_features


def by_definition(x, y):
    """The three means, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1.0) ** 4

    own = [sum(k(a, b) for a, b in itertools.permutations(part, 2)) / (len(part) * (len(part) - 1)) for part in (x, y)]
    return sum(own) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_mmd_is_the_mean_over_pairs():
    x, y = torch.randn(9, 4, dtype=torch.double), torch.rand(13, 4, dtype=torch.double)
    assert kernel.mmd_squared(x, y) == pytest.approx(by_definition(x, y), rel=1e-10)


def test_mmd_in_pieces_is_the_same(monkeypatch):
    x, y = torch.randn(40, 4, dtype=torch.double), torch.rand(30, 4, dtype=torch.double)
    whole = kernel.mmd_squared(x, y)
    monkeypatch.setattr(kernel, "_CHUNK", 7)
    assert kernel.mmd_squared(x, y) == pytest.approx(whole, rel=1e-12)


def test_published_protocol_gives_the_figures_of_jetnet(real, generated):
    # `jetnet.evaluation.kpd(..., batch_size=200)`; see conftest.py
    scaled = scaled_features("test", *(energy_flow_polynomials(*jets) for jets in (real, generated)), 1)
    assert kernel._published(*scaled, 42, 200) == pytest.approx((115.65455637896976, 2022.3689758208934), rel=1e-9)


@pytest.mark.slow
def test_published_protocol_in_full_gives_the_figures_of_jetnet(real, generated):
    features = [energy_flow_polynomials(*jets) for jets in (real, generated)]
    found = kernel_physics_distance(*features, protocol="published", floor=False)
    assert found[:2] == pytest.approx((1018.6003386727489, 452.2026560335657), rel=1e-9)


def uniform(n, seed, shift=0.0):
    return torch.rand(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + shift


@pytest.mark.slow
def test_every_jet_counts_once_and_the_mean_over_samples_is_right():
    real, other = uniform(60, 0), uniform(50, 1, 0.2)
    scaled = scaled_features("test", real, other, 1)
    estimate = kernel_physics_distance(real, other)
    assert estimate.value == pytest.approx(by_definition(*scaled), rel=1e-9)
    same = np.array(
        [kernel_physics_distance(uniform(80, 2 * k), uniform(80, 2 * k + 1), floor=False) for k in range(60)]
    )
    # unbiased: nothing on average, and negative as often as not
    assert abs(same[:, 0].mean()) < 3 * same[:, 0].std() / 60**0.5
    assert (same[:, 0] < 0).mean() > 0.3
    assert 0.5 < same[:, 1].mean() / same[:, 0].std() < 2.0


def test_more_jets_than_are_looked_at_are_drawn(monkeypatch):
    monkeypatch.setattr(kernel, "MOST_JETS", 40)
    real, other = uniform(100, 0), uniform(100, 1, 0.2)
    first = kernel_physics_distance(real, other, seed=1)
    assert first == kernel_physics_distance(real, other, seed=1)
    assert first.value != kernel_physics_distance(real, other, seed=2).value


def test_floor_is_far_below_a_real_difference():
    estimate = kernel_physics_distance(uniform(300, 0), uniform(300, 1, 0.3))
    assert abs(estimate.floor) < 0.1 * estimate.value


def test_too_few_jets_are_refused():
    with pytest.raises(DataError, match="19 real jets. Allowed: at least 20"):
        kernel_physics_distance(uniform(19, 0), uniform(30, 1))


def test_metric_measures_polynomials(real, generated):
    metric = KernelPhysicsDistance(seed=3)
    for jets, is_real in ((real, True), (generated, False)):
        metric.update(*jets, real=is_real)
    value, std, floor = kernel_physics_distance(*(energy_flow_polynomials(*jets) for jets in (real, generated)), seed=3)
    assert {k: float(v) for k, v in metric.compute().items()} == {"kpd": value, "kpd_std": std, "kpd_floor": floor}
