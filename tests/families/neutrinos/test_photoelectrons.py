from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.neutrinos.photoelectrons import draw_charge, draw_noise, draw_photoelectrons


def test_photoelectrons_are_poisson_in_every_sensor_by_itself():
    n, means = 20_000, np.array([0.0, 0.02, 0.5, 0.0, 3.0, 1.0, 0.0], np.float32)
    particle, sensor = draw_photoelectrons(np.broadcast_to(means, (n, 7)), np.random.default_rng(3))
    counts = np.zeros((n, 7), int)
    np.add.at(counts, (particle, sensor), 1)
    assert not counts[:, means == 0].any()
    assert np.allclose(counts.mean(axis=0), means, atol=4 * math.sqrt(3.0 / n))
    # mean and variance of a Poisson number are equal, and the sensors know nothing of each other
    covariance = np.cov(counts.T)
    assert np.allclose(covariance, np.diag(means), atol=5 * math.sqrt(2 * 3.0**2 / n))


def test_dark_and_bright_particles_keep_their_own_light():
    mean = np.zeros((4, 3), np.float32)
    mean[1], mean[3] = [0.0, 0.0, 50.0], [50.0, 0.0, 0.0]
    particle, sensor = draw_photoelectrons(mean, np.random.default_rng(0))
    assert set(zip(particle.tolist(), sensor.tolist(), strict=True)) == {(1, 2), (3, 0)}


def test_noise_comes_500_times_a_sensor_and_second():
    n, n_sensors = 4000, 200
    event, sensor, time = draw_noise(n, n_sensors, 500.0, np.random.default_rng(5))
    expected = 500.0 * 10e-6 * n_sensors
    counts = np.bincount(event, minlength=n)
    assert counts.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected / n))
    assert counts.var() == pytest.approx(expected, rel=0.15)
    by_sensor, by_time = np.bincount(sensor, minlength=n_sensors), np.histogram(time, 20, (-4000, 6000))[0]
    for observed in (by_sensor, by_time):
        chi2 = ((observed - observed.mean()) ** 2 / observed.mean()).sum()
        assert chi2 == pytest.approx(len(observed) - 1, abs=4 * math.sqrt(2 * len(observed)))


def test_charges_are_lognormal_in_steps_and_never_nothing():
    charge = draw_charge(40_000, np.random.default_rng(6))
    steps = charge.astype(float) / 0.025
    assert np.allclose(steps, np.rint(steps), atol=1e-4)
    assert charge.min() >= 0.025
    assert np.log(charge).mean() == pytest.approx(-0.06, abs=0.01)
    assert np.log(charge).std() == pytest.approx(0.35, rel=0.02)
