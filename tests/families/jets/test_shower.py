from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.jets.shower import C_F, Partons, alpha_s, shower, split


def quarks(n: int, pt: float = 1000.0) -> Partons:
    return Partons(np.full(n, pt), np.zeros(n), np.zeros(n), np.arange(n), np.zeros(n, dtype=bool))


def test_a_split_keeps_transverse_momentum_exactly_and_its_axis():
    rng = np.random.default_rng(0)
    parents = quarks(500, 731.7)
    share, theta, azimuth = rng.random(500), rng.random(500), rng.uniform(0, 2 * math.pi, 500)
    soft, hard = split(parents, share, theta, azimuth)
    assert np.array_equal(soft.pt + hard.pt, parents.pt) or np.abs(soft.pt + hard.pt - parents.pt).max() < 2e-13 * 731.7
    assert np.allclose(soft.pt * soft.eta + hard.pt * hard.eta, 0.0, atol=1e-10)
    assert np.allclose(soft.pt * soft.phi + hard.pt * hard.phi, 0.0, atol=1e-10)
    assert np.allclose(np.hypot(soft.eta - hard.eta, soft.phi - hard.phi), theta)


def test_a_shower_keeps_the_transverse_momentum_of_every_jet():
    final, _ = shower(quarks(200), np.full(200, 0.8), np.random.default_rng(1))
    assert np.allclose(np.bincount(final.jet, weights=final.pt), 1000.0, rtol=1e-12)
    assert len(final.pt) > 400


def test_primary_lund_plane_has_the_leading_log_density():
    n = 6000
    _, emissions = shower(quarks(n), np.full(n, 0.8), np.random.default_rng(2))
    ln_kt_range, ln_angle_range = (math.log(3.0), math.log(8.0)), (math.log(1 / 0.3), math.log(1 / 0.1))
    ln_kt, ln_angle = np.log(emissions.kt), -np.log(emissions.theta)
    chosen = (
        (ln_kt > ln_kt_range[0])
        & (ln_kt < ln_kt_range[1])
        & (ln_angle > ln_angle_range[0])
        & (ln_angle < ln_angle_range[1])
        & (emissions.share < 0.5)
    )
    found = chosen.sum() / n / (ln_kt_range[1] - ln_kt_range[0]) / (ln_angle_range[1] - ln_angle_range[0])
    grid = np.exp(np.linspace(*ln_kt_range, 200))
    expected = (2 * alpha_s(grid) * C_F / math.pi).mean()
    assert found == pytest.approx(expected, rel=0.2)
