from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from stablelit.families.neutrinos.metrics import KappaCalibration, cap_radius, probability_integral


def drawn(kappa, seed=0):
    """Predictions of these kappas, and truths drawn from their distributions by inverting the cosine's integral."""
    rng = np.random.default_rng(seed)
    n = rng.normal(size=(len(kappa), 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    u, turn = rng.random(len(kappa)), rng.uniform(0, 2 * np.pi, len(kappa))
    versine = -np.log1p(u * np.expm1(-2 * kappa)) / kappa
    sine = np.sqrt(np.clip(versine * (2 - versine), 0, None))
    first = np.cross(n, np.roll(n, 1, axis=1))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(n, first)
    t = (1 - versine)[:, None] * n + sine[:, None] * (np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second)
    return torch.from_numpy(kappa[:, None] * n), torch.from_numpy(t), u


def scores(f, t):
    metric = KappaCalibration()
    for part in zip(f.split(999), t.split(999), strict=True):
        metric.update(*part)
    return {name: float(value) for name, value in metric.compute().items()}


def some_kappas(n, seed=1):
    return 10 ** np.random.default_rng(seed).uniform(-2, 4, n)


def test_the_integral_gives_back_what_the_truths_were_drawn_with():
    kappa = np.concatenate([some_kappas(2000), [1e-7, 1e6]])
    f, t, u = drawn(kappa)
    found, depth = probability_integral(f, t)
    np.testing.assert_allclose(found, u, atol=1e-7)
    np.testing.assert_allclose(depth, -np.log1p(-u), rtol=1e-6, atol=1e-7)


def test_the_integral_is_the_density_s_over_a_cap():
    for kappa, angle in ((0.01, 2.0), (1.0, 1.0), (30.0, 0.2), (30.0, 1.5)):
        f = torch.tensor([[0.0, 0.0, kappa]])
        t = torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]])
        constant = kappa / (4 * mpmath.pi * mpmath.sinh(kappa))
        cap = 2 * mpmath.pi * constant * mpmath.quad(lambda x, k=kappa: mpmath.exp(k * x), [mpmath.cos(angle), 1])
        u, depth = probability_integral(f, t)
        assert float(u) == pytest.approx(float(cap), rel=1e-5)
        assert float(depth) == pytest.approx(float(-mpmath.log(1 - cap)), rel=1e-4)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.68, 0.999])
def test_a_cap_of_its_radius_holds_its_share(share):
    kappa = torch.tensor([1e-3, 0.4, 1.0, 30.0, 1e4, 1e6], dtype=torch.float64)
    angle = cap_radius(kappa, share)
    t = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], dim=1)
    f = torch.stack([torch.zeros_like(kappa), torch.zeros_like(kappa), kappa], dim=1)
    assert probability_integral(f, t)[0].tolist() == pytest.approx([share] * len(kappa), rel=1e-6)


def test_half_of_an_even_sphere_is_a_right_angle_and_a_narrow_cap_is_a_gaussian():
    assert float(cap_radius(torch.tensor(0.0), 0.5)) == pytest.approx(math.pi / 2, abs=1e-6)
    narrow = float(cap_radius(torch.tensor(1e7, dtype=torch.float64), 0.5))
    assert narrow == pytest.approx(math.sqrt(2 * math.log(2) / 1e7), rel=1e-6)


def test_deep_in_the_tail_the_integral_still_tells_events_apart():
    t = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    f = torch.tensor([[200.0, 0.0, 0.0], [400.0, 0.0, 0.0]], dtype=torch.float64)
    u, depth = probability_integral(f, t)
    assert u.tolist() == [1.0, 1.0]
    assert depth.tolist() == pytest.approx([200.0, 400.0])


def test_true_kappas_cover_as_much_as_they_say():
    n = 40_000
    found = scores(*drawn(some_kappas(n))[:2])
    for percent in (50, 68, 90):
        share = percent / 100
        assert found[f"coverage_{percent}"] == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))
    # 1.95 / sqrt(n) is exceeded once in a thousand
    assert found["kappa_ks"] < 1.95 / math.sqrt(n)
    assert found["pull_width"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_kappas_that_say_too_much_or_too_little_are_found_out(factor):
    f, t, _ = drawn(10 ** np.random.default_rng(2).uniform(2, 4, 20_000))
    found = scores(factor * f, t)
    # for small angles u is 1 - exp(-kappa theta^2 / 2): a kappa f times too large covers 1 - (1 - q)^(1/f)
    for percent in (50, 68, 90):
        assert found[f"coverage_{percent}"] == pytest.approx(1 - (1 - percent / 100) ** (1 / factor), abs=0.015)
    assert found["pull_width"] == pytest.approx(math.sqrt(factor), rel=0.02)
    assert found["kappa_ks"] > 0.3


def test_coverage_and_distance_are_those_of_the_sorted_values():
    f, t, _ = drawn(some_kappas(3000))
    found = scores(2.5 * f, t)
    u = np.sort(probability_integral(2.5 * f, t)[0].numpy())
    ranks = np.arange(len(u))
    distance = max((u - ranks / len(u)).max(), ((ranks + 1) / len(u) - u).max())
    assert found["kappa_ks"] == pytest.approx(distance, abs=1 / 4096 + 1e-9)
    for percent in (50, 68, 90):
        assert found[f"coverage_{percent}"] == pytest.approx((u <= percent / 100).mean(), abs=1e-12)


def test_quantiles_of_kappa_are_known_to_half_a_percent():
    kappa = some_kappas(5000)
    found = scores(*drawn(kappa)[:2])
    for name, share in (("median", 0.5), ("99", 0.99)):
        exact = np.quantile(np.log10(kappa), share, method="inverted_cdf")
        assert found[f"log10_kappa_{name}"] == pytest.approx(exact, abs=1 / 512)


def test_kappas_beyond_every_scale_are_counted_at_the_ends():
    t = torch.tensor([[0.0, 0.0, 1.0]])
    assert scores(torch.zeros(1, 3), t)["log10_kappa_median"] == pytest.approx(-6.0, abs=1 / 512)
    assert scores(1e20 * t, t)["log10_kappa_median"] == pytest.approx(8.0, abs=1 / 512)
