from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.jets.kinematics import RaggedJets, made_relative, needed_conversion


def absolute(jets, in_gev=True, eta=1.3, phi=3.0):
    """The same jets in the detector, each at its own place."""
    particles = jets.particles.copy()
    turn = phi + np.linspace(0, 2 * np.pi, len(jets))[:, None]
    particles[..., 0] += eta
    particles[..., 1] = np.remainder(particles[..., 1] + turn + np.pi, 2 * np.pi) - np.pi
    if in_gev:
        particles[..., 2] *= jets.jet[:, :1]
    particles[~jets.mask] = 0.0
    return replace(jets, particles=particles)


def test_relative_jets_need_nothing_and_are_left_alone(toy_jets):
    assert needed_conversion(toy_jets) == frozenset()
    assert made_relative(toy_jets, frozenset(), "x") is toy_jets


@pytest.mark.parametrize("in_gev", [True, False])
def test_absolute_jets_are_recognised_and_come_back(toy_jets, in_gev):
    moved = absolute(toy_jets, in_gev)
    needed = needed_conversion(moved)
    assert needed == ({"axis", "pt"} if in_gev else {"axis"})
    back = made_relative(moved, needed, "x").validate("x")
    # the axis is that of the particles kept: the toy's is that of all of them
    for before, after, mask in zip(toy_jets.particles.astype(float), back.particles, toy_jets.mask, strict=True):
        eta, phi, pt = before[mask].T
        assert np.allclose(after[mask, 0], eta - np.average(eta, weights=pt), atol=1e-5)
        axis = np.angle((pt * np.exp(1j * phi)).sum())
        assert np.allclose(np.exp(1j * after[mask, 1]), np.exp(1j * (phi - axis)), atol=1e-5)
    assert np.allclose(back.particles[..., 2], toy_jets.particles[..., 2], rtol=1e-5)
    assert not back.particles[~toy_jets.mask].any()


@pytest.mark.parametrize("jet_pt", [1.0, 1e6, 0.0])
def test_gev_without_the_jets_own_pt_cannot_become_fractions(toy_jets, jet_pt):
    moved = absolute(toy_jets)
    # a copy: the jets of the fixture are those of every other test
    jet = moved.jet.copy()
    jet[:, 0] = jet_pt
    with pytest.raises(DataError, match=r"mine\.h5: .*looks like GeV.*no fraction can be made"):
        made_relative(replace(moved, jet=jet), frozenset({"pt"}), "mine.h5")


def test_two_particles_across_pi_have_their_axis_between_them():
    pt, phi = np.array([30.0, 30.0]), np.array([math.pi - 0.1, -math.pi + 0.1])
    jets = RaggedJets.from_counts([2], "x").from_angles({"pt": pt, "eta": np.array([0.5, 0.7]), "phi": phi})
    assert np.allclose(jets.particles[0, :, 1], [-0.1, 0.1], atol=1e-6)
    assert np.allclose(jets.particles[0, :, 0], [-0.1, 0.1], atol=1e-6)
    # m^2 = 2 pT pT (cosh 0.2 - cos 0.2)
    assert jets.jet[0, 2] == pytest.approx(30 * math.sqrt(2 * (math.cosh(0.2) - math.cos(0.2))), rel=1e-5)


def test_one_particle_is_its_own_axis_and_none_is_nothing():
    jets = RaggedJets.from_counts([0, 1, 0], "x").from_momenta({"px": [-9.0], "py": [0.0], "pz": [4.0]})
    assert jets.mask.tolist() == [[False], [True], [False]]
    assert np.allclose(jets.particles[1, 0], [0, 0, 1], atol=1e-6)
    assert np.allclose(jets.jet[1], [9.0, math.asinh(4 / 9), 0.0, 1.0], atol=1e-4)
    assert not jets.jet[0].any()


def test_a_boost_along_the_beam_and_a_turn_change_nothing():
    rng = np.random.default_rng(0)
    pt, eta, phi = rng.uniform(5, 50, 40), 0.3 * rng.standard_normal(40), 0.3 * rng.standard_normal(40)
    ragged = RaggedJets.from_counts([7, 13, 20], "x")
    first = ragged.from_angles({"pt": pt, "eta": eta, "phi": phi})
    second = ragged.from_angles({"pt": pt, "eta": eta + 1.1, "phi": phi + 5.0})
    assert np.allclose(first.particles, second.particles, atol=1e-5)
    assert np.allclose(first.jet[:, [0, 2]], second.jet[:, [0, 2]], rtol=1e-5)


def test_a_mask_with_holes_names_the_place_in_the_file():
    mask = np.array([[True, False, True]])
    ragged = RaggedJets.from_mask(mask, "x", first_jet=20)
    with pytest.raises(DataError, match=r"jet 20, particle 2 has px=py=0"):
        ragged.from_momenta({"px": [9.0, 0.0], "py": [0.0, 0.0], "pz": [4.0, 1.0]})


@pytest.mark.parametrize("in_degrees", [True, False])
def test_particles_that_do_not_fly_together_are_no_jet(in_degrees):
    rng = np.random.default_rng(2)
    phi = np.degrees(0.3 * rng.standard_normal(400)) if in_degrees else rng.uniform(-np.pi, np.pi, 400)
    values = {"pt": rng.uniform(5, 50, 400), "eta": rng.standard_normal(400), "phi": phi}
    with pytest.raises(DataError, match=r"mine: .*do not fly together.*whole events, or .* not in radians"):
        RaggedJets.from_counts([20] * 20, "mine").from_angles(values)
