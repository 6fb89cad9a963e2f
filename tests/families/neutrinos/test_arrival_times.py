from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.families.neutrinos.arrival_times import draw_delay, unscattered_arrival
from stablelit.families.neutrinos.particles import draw_particles

C, N, N_GROUP = 0.299792458, 1.32, 1.36


def drawn(n, track_share):
    rng = np.random.default_rng(8)
    particles = draw_particles(n, track_share, rng)
    return particles, np.arange(n), rng.uniform(-500, 500, (n, 3)).astype(np.float32).astype(float)


def test_the_first_light_of_a_track_is_the_earliest_from_all_of_its_points():
    particles, which, position = drawn(20, 1.0)
    time, way = unscattered_arrival(particles, which, position)
    flat = np.sin(particles.zenith)
    flight = -np.stack(
        [np.cos(particles.azimuth) * flat, np.sin(particles.azimuth) * flat, np.cos(particles.zenith)], 1
    )
    # where on the track the light leaves it, metres from the point at time 0
    emission = np.arange(-4000, 4000, 0.5)
    for i in range(20):
        points = particles.point[i] + emission[:, None] * flight[i]
        path = np.linalg.norm(position[i] - points, axis=1)
        arrival = emission / C + path * N / C
        first = arrival.argmin()
        assert time[i] == pytest.approx(arrival[first], abs=1e-2)
        assert time[i] <= arrival[first] + 1e-9
        assert way[i] == pytest.approx(path[first], abs=1.0)
        if path[first] > 50:
            cosine = (position[i] - points[first]) @ flight[i] / path[first]
            assert cosine == pytest.approx(1 / N, abs=0.02)


def test_the_light_of_a_cascade_comes_straight_from_its_place():
    particles, which, position = drawn(20, 0.0)
    time, way = unscattered_arrival(particles, which, position)
    for i in range(20):
        distance = math.dist(position[i], particles.point[i])
        assert way[i] == pytest.approx(distance)
        assert time[i] == pytest.approx(distance * N_GROUP / C)


def test_photons_are_of_the_particle_that_they_are_given():
    particles, which, position = drawn(6, 0.5)
    time, way = unscattered_arrival(particles, which, position)
    turned = np.array([4, 1, 1, 0])
    again, way_again = unscattered_arrival(particles, turned, position[turned])
    assert np.array_equal(again, time[turned])
    assert np.array_equal(way_again, way[turned])


@pytest.mark.parametrize("way", [8.0, 50.0, 200.0])
def test_delays_have_the_moments_of_pandels_gamma_distribution(way):
    n = 40_000
    delay = draw_delay(np.full(n, way), np.random.default_rng(int(way)))
    shape, scale = way / 33.3, 1 / (1 / 557 + C / N_GROUP / 98)
    mean, variance = shape * scale, shape * scale**2 + 3.0**2
    assert delay.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / n))
    # the fourth moment of a gamma distribution gives the error of its variance
    assert delay.var() == pytest.approx(variance, rel=4 * math.sqrt((2 + 6 / shape) / n))


def test_light_that_goes_no_way_has_only_the_jitter_of_the_clock():
    delay = draw_delay(np.zeros(20_000), np.random.default_rng(0))
    assert delay.mean() == pytest.approx(0.0, abs=0.1)
    assert delay.std() == pytest.approx(3.0, rel=0.03)
