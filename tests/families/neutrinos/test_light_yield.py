from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.neutrinos.light_yield import mean_photoelectrons
from stablelit.families.neutrinos.particles import Particles, draw_particles

N = 1.32


def one_by_one(particles, position, track_yield, cascade_yield):
    """The formulas, sensor by sensor, with distances from cross products."""
    mean = np.zeros((len(particles), len(position)))
    for i in range(len(particles)):
        a, z, energy = particles.azimuth[i], particles.zenith[i], particles.energy[i]
        flight = -np.array([math.cos(a) * math.sin(z), math.sin(a) * math.sin(z), math.cos(z)])
        for j, place in enumerate(position.astype(float)):
            away = place - particles.point[i]
            s = np.linalg.norm(away)
            if particles.is_track[i]:
                d = np.linalg.norm(np.cross(away, flight))
                way = d / math.sin(math.acos(1 / N))
                mean[i, j] = track_yield * 1.2 * energy**0.35 * 12 * math.exp(-way / 98 - d / 120) / (way + 12)
            else:
                cosine = away @ flight / s
                clear = math.exp(-s / 70)
                pattern = clear * math.exp(-3 * abs(cosine - 1 / N)) / 0.47 + 0.75 * (1 - clear)
                mean[i, j] = cascade_yield * 9 * energy**0.55 * 6 * math.exp(-s / 60) / (s + 10) * pattern
    return mean


def test_the_mean_is_that_of_the_formulas_taken_one_by_one():
    rng = np.random.default_rng(4)
    particles = draw_particles(30, 0.5, rng)
    position = rng.uniform(-600, 600, (25, 3)).astype(np.float32)
    # some near the particles, where distances are small
    position[:5] = particles.point[:5] + rng.normal(0, 3, (5, 3))
    expected = one_by_one(particles, position, 0.3, 0.7)
    found = mean_photoelectrons(particles, position, np.zeros(25, bool), track_yield=0.3, cascade_yield=0.7)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=2e-4)


def test_deepcore_sees_a_third_more():
    particles = draw_particles(10, 0.5, np.random.default_rng(1))
    position = np.random.default_rng(2).uniform(-500, 500, (6, 3)).astype(np.float32)
    plain = mean_photoelectrons(particles, position, np.zeros(6, bool))
    deep = mean_photoelectrons(particles, position, np.ones(6, bool))
    assert np.allclose(deep, 1.35 * plain)


def test_a_track_shines_alike_along_its_length_and_a_cascade_most_at_the_cherenkov_angle():
    flat = np.full(2, math.pi / 2)
    particles = Particles(np.zeros(2), flat, np.zeros((2, 3)), np.full(2, 1e3), np.array([True, False]))
    # the particle flies towards -x
    along = np.array([[x, 40.0, 0.0] for x in (-300.0, 0.0, 300.0)], np.float32)
    assert np.ptp(mean_photoelectrons(particles, along, np.zeros(3, bool))[0]) < 1e-6
    angle = np.radians(np.arange(0, 181))
    ring = np.stack([-30 * np.cos(angle), 30 * np.sin(angle), 0 * angle], axis=1).astype(np.float32)
    brightest = mean_photoelectrons(particles, ring, np.zeros(181, bool))[1].argmax()
    assert brightest == pytest.approx(math.degrees(math.acos(1 / N)), abs=0.6)


def test_a_cascade_at_a_sensors_own_place_has_a_finite_yield():
    particles = Particles(np.zeros(1), np.ones(1), np.zeros((1, 3)), np.full(1, 1e3), np.zeros(1, bool))
    mean = mean_photoelectrons(particles, np.zeros((1, 3), np.float32), np.zeros(1, bool))
    assert np.isfinite(mean).all()
    assert mean[0, 0] > 0
