from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.neutrinos.particles import draw_particles


@pytest.fixture(scope="module")
def many():
    return draw_particles(20_000, 0.5, np.random.default_rng(2))


def distance_to_uniform(values):
    """Of Kolmogorov and Smirnov, between values in [0, 1] and the uniform distribution."""
    ordered, n = np.sort(values), len(values)
    return max(np.abs(np.arange(1, n + 1) / n - ordered).max(), np.abs(np.arange(n) / n - ordered).max())


# the 0.1 % point of the distribution of the distance
def limit(n):
    return 1.95 / math.sqrt(n)


def test_directions_are_isotropic(many):
    assert distance_to_uniform((np.cos(many.zenith) + 1) / 2) < limit(len(many))
    assert distance_to_uniform(many.azimuth / (2 * math.pi)) < limit(len(many))
    # azimuth and zenith know nothing of each other
    assert abs(np.corrcoef(many.azimuth, np.cos(many.zenith))[0, 1]) < 4 / math.sqrt(len(many))


def test_energies_are_exponential_in_their_logarithm_up_to_the_cut(many):
    excess = np.log10(many.energy) - 2.0
    at_the_cut = np.isclose(excess, 2.5)
    share = math.exp(-2.5 / 0.7)
    assert at_the_cut.mean() == pytest.approx(share, abs=4 * math.sqrt(share / len(many)))
    below = excess[~at_the_cut]
    assert distance_to_uniform((1 - np.exp(-below / 0.7)) / (1 - share)) < limit(len(below))


def test_half_of_the_particles_are_tracks_and_each_kind_fills_its_cube(many):
    assert many.is_track.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(many)))
    for of_kind, half_width in ((many.is_track, 650.0), (~many.is_track, 450.0)):
        for axis in range(3):
            uniform = many.point[of_kind, axis] / (2 * half_width) + 0.5
            assert distance_to_uniform(uniform) < limit(len(uniform))


def test_the_frame_flies_away_from_where_the_particle_came(many):
    frames = many.frames()
    assert np.allclose(frames @ frames.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    flat = np.sin(many.zenith)
    came_from = np.stack([np.cos(many.azimuth) * flat, np.sin(many.azimuth) * flat, np.cos(many.zenith)], axis=1)
    assert np.allclose(frames[:, 0], -came_from, atol=1e-12)


def test_the_share_of_tracks_may_be_nothing_or_all():
    assert not draw_particles(50, 0.0, np.random.default_rng(0)).is_track.any()
    assert draw_particles(50, 1.0, np.random.default_rng(0)).is_track.all()
