from __future__ import annotations

import itertools
import math

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.jets.metrics import JetMassW1, jet_mass, real_against_real, wasserstein_1d


def brute_force(a, b):
    """The area between the two cumulative distributions, by walking along the values."""
    a, b = sorted(a.tolist()), sorted(b.tolist())
    values = sorted(a + b)
    area = 0.0
    for low, high in itertools.pairwise(values):
        below_a = sum(v <= low for v in a) / len(a)
        below_b = sum(v <= low for v in b) / len(b)
        area += abs(below_a - below_b) * (high - low)
    return area


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (7, 3), (2, 31), (24, 36)])
def test_distance_is_the_area_between_the_cumulative_distributions(n, m):
    a, b = torch.randn(n), 0.5 + 2 * torch.randn(m)
    assert float(wasserstein_1d(a, b)) == pytest.approx(brute_force(a, b), abs=1e-6)


def test_distance_of_a_shifted_sample_is_the_shift():
    a = torch.randn(50, dtype=torch.double)
    assert float(wasserstein_1d(a, a + 0.3)) == pytest.approx(0.3)
    assert float(wasserstein_1d(a, a[torch.randperm(50)])) == 0.0
    assert float(wasserstein_1d(a, a.repeat(3))) == pytest.approx(0.0, abs=1e-12)


def test_an_empty_sample_is_refused():
    with pytest.raises(DataError, match="0 and 3"):
        wasserstein_1d(torch.zeros(0), torch.zeros(3))


def test_mass_equals_the_sum_of_four_vectors(toy_jets):
    particles, mask = torch.from_numpy(toy_jets.particles[:5]), torch.from_numpy(toy_jets.mask[:5])
    for jet, found in enumerate(jet_mass(particles, mask).tolist()):
        e = x = y = z = 0.0
        for (eta, phi, pt), there in zip(particles[jet].tolist(), mask[jet].tolist(), strict=True):
            if there:
                e, x = e + pt * math.cosh(eta), x + pt * math.cos(phi)
                y, z = y + pt * math.sin(phi), z + pt * math.sinh(eta)
        assert found == pytest.approx(math.sqrt(e**2 - x**2 - y**2 - z**2), rel=1e-9)


def test_mass_of_two_particles_is_known_and_of_one_is_zero():
    particles = torch.tensor([[[0.1, 0.2, 0.6], [-0.3, -0.1, 0.4]]], dtype=torch.double)
    both = jet_mass(particles, torch.tensor([[True, True]]))
    assert float(both) == pytest.approx(math.sqrt(2 * 0.6 * 0.4 * (math.cosh(0.4) - math.cos(0.3))))
    assert float(jet_mass(particles, torch.tensor([[True, False]]))) == pytest.approx(0.0, abs=1e-7)


def test_metric_adds_batches_up(toy_jets):
    particles, mask = torch.from_numpy(toy_jets.particles), torch.from_numpy(toy_jets.mask)
    metric = JetMassW1()
    for part in (slice(0, 70), slice(70, 150)):
        metric.update(particles[part], mask[part], real=True)
    metric.update(particles[150:], mask[150:], real=False)
    scores = metric.compute()
    masses = jet_mass(particles, mask)
    assert float(scores["mass_w1"]) == pytest.approx(float(wasserstein_1d(masses[:150], masses[150:])))
    assert 0 < float(scores["mass_w1_floor"]) < 0.05


def test_floor_predicts_what_real_jets_score_against_as_many_others():
    draws = torch.Generator().manual_seed(5)
    scores = [wasserstein_1d(*torch.randn(2, 400, generator=draws)) for _ in range(60)]
    floors = [real_against_real(torch.randn(400, generator=draws)) for _ in range(60)]
    assert float(torch.stack(floors).mean() / torch.stack(scores).mean()) == pytest.approx(1.0, abs=0.15)
    assert real_against_real(torch.randn(1)).isnan()
