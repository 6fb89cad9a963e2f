from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.metrics import (
    FrechetPhysicsDistance,
    energy_flow_polynomials,
    frechet,
    frechet_physics_distance,
)
from stablelit.families.jets.metrics.frechet import fit_limit, frechet_distance


def test_distance_of_gaussians_whose_covariances_commute_is_known():
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.double))
    a, b = torch.rand(5, dtype=torch.double), torch.rand(5, dtype=torch.double)
    mean = torch.randn(2, 5, dtype=torch.double)
    found = frechet_distance(mean[0], rotation * a @ rotation.T, mean[1], rotation * b @ rotation.T)
    assert float(found) == pytest.approx(
        float((mean[0] - mean[1]).square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    )


def test_distance_equals_the_root_of_the_product_also_where_it_is_singular():
    half = torch.randn(2, 6, 6, dtype=torch.double)
    full = half @ half.mT
    eigenvalues = torch.linalg.eigvals(full[0] @ full[1]).real
    zero = torch.zeros(6, dtype=torch.double)
    expected = full.diagonal(dim1=1, dim2=2).sum() - 2 * eigenvalues.clamp_min(0).sqrt().sum()
    assert float(frechet_distance(zero, full[0], zero, full[1])) == pytest.approx(float(expected), rel=1e-9)
    thin = half[:, :, :2] @ half[:, :, :2].mT
    assert float(frechet_distance(zero, thin[0], zero, thin[0])) == pytest.approx(0.0, abs=1e-7)


def by_search(x, y):
    """The bounded fit, by a fine grid of its two numbers."""
    a, b = np.meshgrid(np.linspace(0, 2, 401), np.linspace(0, 2, 401), indexing="ij")
    cost = sum((a + b * xi - yi) ** 2 for xi, yi in zip(x, y, strict=True))
    place = np.unravel_index(cost.argmin(), cost.shape)
    return a[place]


@pytest.mark.parametrize(("a", "b"), [(0.5, 1.0), (-0.5, 1.5), (1.2, -0.7), (-0.2, -0.3)])
def test_fit_is_least_squares_within_its_bounds(a, b):
    x = np.linspace(0.2, 1.0, 10)
    y = a + b * x + 0.05 * np.sin(17 * x)
    found, _ = fit_limit(torch.from_numpy(1 / x), torch.from_numpy(y))
    assert found == pytest.approx(by_search(x, y), abs=0.006)


def test_error_of_the_fit_is_that_of_a_line():
    x = np.linspace(0.2, 1.0, 10)
    y = 1.0 + 2.0 * x + 0.1 * np.cos(9 * x)
    design = np.stack([np.ones(10), x], axis=1)
    solution, squares, _, _ = np.linalg.lstsq(design, y, rcond=None)
    covariance = squares[0] / 8 * np.linalg.inv(design.T @ design)
    assert fit_limit(torch.from_numpy(1 / x), torch.from_numpy(y)) == pytest.approx(
        (solution[0], covariance[0, 0] ** 0.5)
    )


def published(real, generated, least, most):
    scaled = frechet.scaled_features("test", real, generated, 1)
    return frechet._published(*scaled, 42, least, most)


@pytest.mark.slow
def test_published_protocol_gives_the_figures_of_jetnet(real, generated):
    # `jetnet.evaluation.fpd(..., min_samples=200, max_samples=500)`; see conftest.py. It fits by iteration, to 1e-6.
    features = [energy_flow_polynomials(*jets) for jets in (real, generated)]
    value, error = published(*features, 200, 500)
    assert value == pytest.approx(19.00237192, rel=1e-6)
    assert error == pytest.approx(2.26368459, rel=1e-5)
    value, error = published(features[0][:200], features[0][200:], 200, 500)
    assert value == pytest.approx(0.09584305726, rel=1e-6)
    assert error == pytest.approx(0.014963951, rel=1e-5)


@pytest.mark.slow
def test_published_protocol_in_full_gives_the_figure_of_jetnet(real, generated):
    features = [energy_flow_polynomials(*jets) for jets in (real, generated)]
    estimate = frechet_physics_distance(*features, protocol="published", floor=False)
    assert estimate[:2] == pytest.approx((17.98707346892327, 0.30647073130031544), rel=1e-6)


def gaussians(n, seed, shift=0.0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=draws, dtype=torch.double) * torch.linspace(0.5, 1.0, 6) + shift


@pytest.mark.slow
def test_few_jets_give_the_distance_of_their_distributions():
    # over a hundred such pairs: 1.01 +- 0.02 of the distance, where the plain estimate is 1.17 of it
    pairs = [(gaussians(400, 2 * k), gaussians(400, 2 * k + 1, 0.2)) for k in range(12)]
    largest = [real.abs().amax(0) for real, _ in pairs]
    expected = [float((0.2 / scale).square().sum()) for scale in largest]
    found = [frechet_physics_distance(*pair, floor=False) for pair in pairs]
    ratios = np.array([estimate.value / x for estimate, x in zip(found, expected, strict=True)])
    error = ratios.std() / 12**0.5
    assert abs(ratios.mean() - 1.0) < 3 * error
    plain = [
        frechet_distance(*frechet._mean_and_covariance(a / s), *frechet._mean_and_covariance(b / s))
        for (a, b), s in zip(pairs, largest, strict=True)
    ]
    assert np.mean(np.array(plain) / expected) - ratios.mean() == pytest.approx(0.16, abs=0.04)
    # the error it tells is of the size of what it varies by
    told = np.mean([estimate.std / x for estimate, x in zip(found, expected, strict=True)])
    assert 0.5 < told / ratios.std() < 2.0


@pytest.mark.slow
def test_published_protocol_leaves_in_the_bias_of_few_jets():
    pairs = [(gaussians(400, 2 * k), gaussians(400, 2 * k + 1)) for k in range(3)]
    biased = np.mean([published(*pair, 400, 1000)[0] for pair in pairs])
    unbiased = np.mean([frechet_physics_distance(*pair, floor=False).value for pair in pairs])
    assert unbiased < 0.35 * biased


def test_unions_of_blocks_have_the_moments_of_their_jets():
    features = gaussians(200, 3, 5.0)
    centre = features.mean(dim=0) + 1.0
    blocks = frechet._Blocks(features, centre, np.random.default_rng(0))
    order = torch.from_numpy(np.random.default_rng(0).permutation(200)).view(40, 5)
    for chosen in (torch.arange(40), torch.tensor([3, 17, 30])):
        taken = torch.zeros(1, 40, dtype=torch.double).index_fill(1, chosen, 1.0)
        mean, covariance = blocks.moments(taken)
        jets = features[order[chosen].flatten()]
        assert torch.allclose(mean[0] + centre, jets.mean(dim=0), rtol=1e-12)
        assert torch.allclose(covariance[0], torch.cov(jets.T), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_floor_is_nearly_nothing_and_seeds_decide():
    real, other = gaussians(600, 1), gaussians(500, 2, 0.3)
    first = frechet_physics_distance(real, other, seed=4)
    assert first == frechet_physics_distance(real, other, seed=4)
    assert first.value != frechet_physics_distance(real, other, seed=5).value
    assert 0 <= first.floor < 0.2 * first.value
    assert np.isnan(frechet_physics_distance(real[:250], other, floor=True).floor)


def test_a_feature_that_is_nothing_counts_for_nothing():
    real, other = gaussians(300, 1), gaussians(300, 2, 0.3)
    padded = [torch.cat([features, torch.zeros(300, 1)], dim=1) for features in (real, other)]
    expected = frechet_physics_distance(real, other, floor=False).value
    assert frechet_physics_distance(*padded, floor=False).value == pytest.approx(expected, rel=1e-9)


def test_auto_is_published_from_fifty_thousand_jets_on():
    assert frechet.chosen_protocol("x", "auto", 50_000, 50_000) == "published"
    assert frechet.chosen_protocol("x", "auto", 50_000, 49_999) == "subsample"


def test_wrong_input_is_refused():
    good = gaussians(300, 0)
    with pytest.raises(DataError, match="199 generated jets. Allowed: at least 200"):
        frechet_physics_distance(good, good[:199])
    with pytest.raises(DataError, match="1 of 300 real jets have features that are NaN"):
        frechet_physics_distance(good.index_fill(0, torch.tensor([3]), torch.nan), good)
    with pytest.raises(DataError, match="same features"):
        frechet_physics_distance(good, good[:, :2])
    with pytest.raises(ConfigurationError, match="Did you mean 'published'"):
        FrechetPhysicsDistance(protocol="publish")


@pytest.mark.slow
def test_metric_measures_polynomials(real, generated):
    metric = FrechetPhysicsDistance(seed=3)
    for jets, is_real in ((real, True), (generated, False)):
        metric.update(*jets, real=is_real)
    features = [energy_flow_polynomials(*jets) for jets in (real, generated)]
    value, std, floor = frechet_physics_distance(*features, seed=3)
    assert {k: float(v) for k, v in metric.compute().items()} == {"fpd": value, "fpd_std": std, "fpd_floor": floor}
