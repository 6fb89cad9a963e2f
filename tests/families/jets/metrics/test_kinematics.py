from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.jets.metrics import axis_distance, jet_mass, jet_momentum


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


def test_momentum_of_jets_is_that_of_jetnet(real):
    # `jetnet.utils.jet_features`; see conftest.py
    found = jet_momentum(real.particles[:3], real.mask[:3])
    assert found.mass.tolist() == pytest.approx([0.08619448534935749, 0.060301413836029126, 0.04443702759812864])
    assert found.pt.tolist() == pytest.approx([0.9118227608924063, 0.9611652809414825, 0.9211893259031191])
    assert found.eta.tolist() == pytest.approx([0.04551727835658455, 0.0190640727791832, 0.112783248599957])


def test_one_particle_is_its_own_jet_and_none_is_nothing():
    particles = torch.tensor([[[0.3, -0.2, 0.7], [float("nan")] * 3], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]])
    found = jet_momentum(particles, torch.tensor([[True, False], [False, False]]))
    assert [float(part[0]) for part in found[:3]] == pytest.approx([0.7, 0.3, -0.2])
    assert [float(part[1]) for part in found] == [0.0, 0.0, 0.0, 0.0]


def test_distance_to_the_axis_is_the_hypotenuse():
    assert float(axis_distance(torch.tensor([[[0.3, -0.4, 0.1]]]))) == pytest.approx(0.5)
