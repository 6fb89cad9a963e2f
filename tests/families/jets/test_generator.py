from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.jets.generator import TOP_MASS_GEV, _pt_eta_phi, decay_tops, toy_shower


@pytest.fixture(scope="module")
def many():
    return toy_shower(3000, n_particles=250, seed=11)


def of_class(jets, name):
    return jets.take(jets.label == jets.classes.index(name))


def test_gluon_jets_have_more_particles_than_quark_jets(many):
    ratio = of_class(many, "g").jet[:, 3].mean() / of_class(many, "q").jet[:, 3].mean()
    # C_A / C_F = 2.25 asymptotically; about 1.5 at these energies
    assert 1.3 < ratio < 1.9


def test_top_jets_peak_at_the_top_mass(many):
    mass = of_class(many, "t").jet[:, 2]
    counts, edges = np.histogram(mass, bins=np.arange(50, 350, 10.0))
    peak = edges[counts.argmax()] + 5.0
    assert abs(peak - TOP_MASS_GEV) < 15.0
    inside = ((mass > 150) & (mass < 195)).mean()
    quark_mass = of_class(many, "q").jet[:, 2]
    assert inside > 0.55 > 4 * ((quark_mass > 150) & (quark_mass < 195)).mean()


def test_azimuth_is_isotropic():
    jets = toy_shower(1500, classes=("q", "g"), seed=5)
    # the hardest particle gives one independent direction a jet
    azimuth = np.sort(np.arctan2(jets.particles[:, 0, 1], jets.particles[:, 0, 0])) / (2 * math.pi) + 0.5
    n = len(azimuth)
    steps = np.arange(1, n + 1) / n
    distance = max(np.abs(steps - azimuth).max(), np.abs(steps - 1 / n - azimuth).max())
    # the 0.1 % point of the Kolmogorov-Smirnov distribution
    assert distance < 1.95 / math.sqrt(n)


def test_one_seed_gives_one_sample_and_another_seed_another():
    first, again, other = (toy_shower(50, seed=s) for s in (7, 7, 8))
    for name in ("particles", "mask", "jet", "label"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.particles, other.particles)


def test_top_decays_conserve_four_momentum():
    rng = np.random.default_rng(3)
    pt = np.full(100, 900.0)
    decayed, _ = decay_tops(pt, np.arange(100), rng)
    p_x = np.bincount(decayed.jet, decayed.pt * np.cos(decayed.phi))
    p_y = np.bincount(decayed.jet, decayed.pt * np.sin(decayed.phi))
    p_z = np.bincount(decayed.jet, decayed.pt * np.sinh(decayed.eta))
    energy = np.bincount(decayed.jet, decayed.pt * np.cosh(decayed.eta))
    assert np.allclose(p_x, pt)
    assert np.allclose(p_y, 0, atol=1e-9)
    assert np.allclose(p_z, 0, atol=1e-9)
    assert np.allclose(energy**2 - p_x**2, TOP_MASS_GEV**2)


def test_pt_eta_phi_inverts_its_definition():
    four = np.array([[5.0, 1.0, 2.0, -3.0]])
    pt, eta, phi = _pt_eta_phi(four)
    assert np.allclose([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], four[:, 1:].T)


def test_particles_are_ordered_by_momentum_and_fractions_of_it(many):
    ptrel = many.particles[..., 2]
    assert (np.diff(ptrel, axis=1) <= 0).all()
    assert (ptrel[many.mask] > 0).all()
    assert not many.particles[~many.mask].any()
    assert np.median(ptrel.sum(axis=1)) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_jets": 0}, "n_jets=0"),
        ({"n_jets": 5, "classes": ("q", "tt")}, "tt"),
        ({"n_jets": 5, "classes": ()}, "classes"),
        ({"n_jets": 5, "classes": ("q", "q")}, "different"),
        ({"n_jets": 5, "kt_cut": 0.0}, "kt_cut"),
        ({"n_jets": 5, "lambda_qcd": 0.6}, "lambda_qcd"),
        ({"n_jets": 5, "jet_pt_gev": "fast"}, "jet_pt_gev"),
        ({"n_jets": 5, "seed": -1}, "seed"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        toy_shower(**arguments)
