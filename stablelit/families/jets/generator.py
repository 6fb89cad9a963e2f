"""TOY jets with known physics, ten thousand in about a quarter of a second: a leading-log shower. It is not Pythia.

A quark, a gluon or a hadronically decaying top, the shower of `shower.py`, hadrons, an underlying event, a detector's
resolution, and the jet's axis. Use them to try software, never as physics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.shower import ALPHA_S_FREEZE_GEV, Floats, Partons, shower
from stablelit.functional.schedules import check_number

TOP_MASS_GEV, W_MASS_GEV = 172.8, 80.4
B_SHOWER_ANGLE = 0.35
CLASSES = {"q": "light quark", "g": "gluon", "t": "hadronic top"}

HADRON_KICK_GEV = 0.35
UNDERLYING_PARTICLES, UNDERLYING_PT_GEV = 4.0, 1.0
ANGLE_RESOLUTION_RAD = 0.003
MIN_PARTICLE_PT_GEV = 0.5


def decay_tops(top_pt: Floats, jet: NDArray[np.int64], rng: np.random.Generator) -> tuple[Partons, Floats]:
    """``t -> b W -> b q q'`` with two isotropic two-body decays.

    A top of mass m and pT p (at eta = 0) decays in its rest frame with momentum ``k = (m^2 - m_W^2) / 2m``; the W in
    its own with ``m_W / 2``; both are boosted to the laboratory. Masses of b and quarks are neglected.

    Returns:
        The three quarks of each top (b first), and their largest shower angle: 0.35 for b, the distance of the pair for
        the quarks of the W.
    """
    n = len(top_pt)
    momentum = (TOP_MASS_GEV**2 - W_MASS_GEV**2) / (2 * TOP_MASS_GEV)
    direction = _isotropic(n, rng)
    b = np.concatenate([np.full((n, 1), momentum), momentum * direction], axis=1)
    w = np.concatenate([np.full((n, 1), math.hypot(momentum, W_MASS_GEV)), -momentum * direction], axis=1)
    direction = _isotropic(n, rng) * (W_MASS_GEV / 2)
    energy = np.full((n, 1), W_MASS_GEV / 2)
    first = _boost(np.concatenate([energy, direction], axis=1), w[:, 1:] / w[:, :1])
    second = _boost(np.concatenate([energy, -direction], axis=1), w[:, 1:] / w[:, :1])
    top_velocity = np.zeros((n, 3))
    top_velocity[:, 0] = top_pt / np.hypot(top_pt, TOP_MASS_GEV)
    pt, eta, phi = zip(*(_pt_eta_phi(_boost(p, top_velocity)) for p in (b, first, second)), strict=True)
    pair_angle = np.hypot(eta[1] - eta[2], _wrap(phi[1] - phi[2]))
    places = np.concatenate(pt), np.concatenate(eta), np.concatenate(phi)
    quarks = Partons(*places, jet=np.tile(jet, 3), is_gluon=np.zeros(3 * n, dtype=bool))
    return quarks, np.concatenate([np.full(n, B_SHOWER_ANGLE), pair_angle, pair_angle])


def hadronise(partons: Partons, rng: np.random.Generator, hadron_rate: float) -> Partons:
    """Replaces each parton by ``1 + Poisson(rate ln(1 + pT))`` hadrons with Gamma(0.8) shares and a 0.35 GeV kick."""
    count = 1 + rng.poisson(hadron_rate * np.log1p(partons.pt))
    parent = np.repeat(np.arange(len(count)), count)
    share = rng.standard_gamma(0.8, size=len(parent))
    share /= np.bincount(parent, weights=share)[parent]
    pt = np.maximum(share * partons.pt[parent], 1e-6)
    kick = HADRON_KICK_GEV / pt
    d_eta, d_phi = rng.standard_normal((2, len(parent))) * kick
    return Partons(
        pt, partons.eta[parent] + d_eta, partons.phi[parent] + d_phi, partons.jet[parent], partons.is_gluon[parent]
    )


def toy_shower(
    n_jets: int,
    classes: Sequence[str] = ("q", "g", "t"),
    n_particles: int = 30,
    jet_pt_gev: float = 1000.0,
    radius: float = 0.8,
    kt_cut: float = 1.0,
    lambda_qcd: float = 0.2,
    hadron_rate: float = 0.9,
    seed: int = 0,
) -> JetArrays:
    """Jets of a TOY leading-log shower (not Pythia), classes in equal parts and shuffled.

    Parton pT is ``jet_pt_gev`` within 1 %. After the shower: hadrons; Poisson(4) soft particles of underlying event;
    resolution ``sigma(pT)/pT = 0.02 (+) 0.1/sqrt(pT)`` and 3 mrad; pT > 0.5 GeV; two rounds of the pT-weighted axis;
    the hardest `n_particles` within `radius`. Jet pT and mass are those of all particles within `radius`.

    Args:
        n_jets: how many jets.
        classes: of "q" (light quark), "g" (gluon) and "t" (hadronic top).
        n_particles: particles a jet is cut or padded to.
        jet_pt_gev: pT of the parton that begins the jet, GeV.
        radius: of the jet cone, and largest angle of the shower.
        kt_cut: where the shower stops, GeV.
        lambda_qcd: of the running coupling, GeV.
        hadron_rate: hadrons per parton and unit of ln(1 + pT).
        seed: of the generator; one seed, one sample.

    Returns:
        The jets, particles ordered by pT. Cut jets without a particle stay, as all-False rows of the mask.

    Raises:
        ConfigurationError: an argument outside its range, an unknown class.
    """
    owner = "toy_shower"
    for name, value in (("n_jets", n_jets), ("n_particles", n_particles)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise bad_argument(owner, name, value, "an int of at least 1")
    classes = tuple(classes)
    for name in classes:
        if name not in CLASSES:
            known = ", ".join(f"{key!r} ({meaning})" for key, meaning in CLASSES.items())
            raise bad_argument(owner, "classes", name, known, did_you_mean(str(name), CLASSES))
    if not classes or len(set(classes)) < len(classes):
        raise bad_argument(owner, "classes", classes, "one or more different names")
    check_number(owner, "kt_cut", kt_cut, above=0.0)
    check_number(owner, "lambda_qcd", lambda_qcd, above=0.0, at_most=0.9 * min(kt_cut, ALPHA_S_FREEZE_GEV))
    check_number(owner, "jet_pt_gev", jet_pt_gev, at_least=20.0)
    check_number(owner, "radius", radius, above=0.0, at_most=1.5)
    check_number(owner, "hadron_rate", hadron_rate, at_least=0.0, at_most=10.0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise bad_argument(owner, "seed", seed, "an int of at least 0")

    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(n_jets) % len(classes))
    partons, theta_max = _initial_partons(label, classes, jet_pt_gev, radius, rng)
    partons, _ = shower(partons, theta_max, rng, kt_cut, lambda_qcd)
    hadrons = hadronise(partons, rng, hadron_rate)
    hadrons = _detect(Partons.join([hadrons, _underlying_event(n_jets, radius, rng)]), rng)
    return _collect(hadrons, label, classes, n_particles, radius, rng)


def _initial_partons(
    label: NDArray[np.int64], classes: tuple[str, ...], pt_gev: float, radius: float, rng: np.random.Generator
) -> tuple[Partons, Floats]:
    pt = pt_gev * (1.0 + 0.01 * rng.standard_normal(len(label)))
    names = np.array(classes)[label]
    light = np.flatnonzero(names != "t")
    zeros = np.zeros(len(light))
    tops, top_angles = decay_tops(pt[names == "t"], np.flatnonzero(names == "t"), rng)
    begin = Partons(pt[light], zeros, zeros, light, names[light] == "g")
    return Partons.join([begin, tops]), np.concatenate([np.full(len(light), radius), top_angles])


def _underlying_event(n_jets: int, radius: float, rng: np.random.Generator) -> Partons:
    jet = np.repeat(np.arange(n_jets), rng.poisson(UNDERLYING_PARTICLES, n_jets))
    distance, azimuth = radius * np.sqrt(rng.random(len(jet))), rng.uniform(0, 2 * math.pi, len(jet))
    pt = rng.exponential(UNDERLYING_PT_GEV, len(jet))
    return Partons(pt, distance * np.cos(azimuth), distance * np.sin(azimuth), jet, np.zeros(len(jet), dtype=bool))


def _detect(hadrons: Partons, rng: np.random.Generator) -> Partons:
    resolution = np.sqrt(0.02**2 + 0.1**2 / np.maximum(hadrons.pt, 1e-3))
    pt = hadrons.pt * (1.0 + resolution * rng.standard_normal(len(resolution)))
    d_eta, d_phi = ANGLE_RESOLUTION_RAD * rng.standard_normal((2, len(pt)))
    seen = Partons(pt, hadrons.eta + d_eta, hadrons.phi + d_phi, hadrons.jet, hadrons.is_gluon)
    return seen.take(pt > MIN_PARTICLE_PT_GEV)


def _collect(
    hadrons: Partons,
    label: NDArray[np.int64],
    classes: tuple[str, ...],
    n_particles: int,
    radius: float,
    rng: np.random.Generator,
) -> JetArrays:
    n_jets = len(label)

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(hadrons.jet, weights=values, minlength=n_jets), dtype=np.float64)

    eta, phi, inside = hadrons.eta, hadrons.phi, np.hypot(hadrons.eta, hadrons.phi) < radius
    for _ in range(2):
        weight = np.where(inside, hadrons.pt, 0.0)
        scale = np.maximum(total(weight), 1e-12)
        eta = eta - (total(weight * eta) / scale)[hadrons.jet]
        phi = phi - (total(weight * phi) / scale)[hadrons.jet]
        inside = np.hypot(eta, phi) < radius
    weight = np.where(inside, hadrons.pt, 0.0)
    p_x, p_y = total(weight * np.cos(phi)), total(weight * np.sin(phi))
    energy, p_z = total(weight * np.cosh(eta)), total(weight * np.sinh(eta))
    jet_pt = np.hypot(p_x, p_y)
    mass = np.sqrt(np.maximum(energy**2 - jet_pt**2 - p_z**2, 0.0))

    chosen = np.flatnonzero(inside)
    # one sort by (jet, falling pT): the jet index is the whole part of the key
    chosen = chosen[np.argsort(hadrons.jet[chosen] + 1.0 / (2.0 + hadrons.pt[chosen]))]
    jet = hadrons.jet[chosen]
    rank = np.arange(len(chosen)) - np.searchsorted(jet, np.arange(n_jets))[jet]
    kept = rank < n_particles
    chosen, jet, rank = chosen[kept], jet[kept], rank[kept]
    particles = np.zeros((n_jets, n_particles, 3), dtype=np.float32)
    mask = np.zeros((n_jets, n_particles), dtype=bool)
    particles[jet, rank] = np.stack([eta[chosen], phi[chosen], hadrons.pt[chosen] / jet_pt[jet]], axis=1)
    mask[jet, rank] = True
    jets = np.stack([jet_pt, rng.uniform(-1.7, 1.7, n_jets), mass, mask.sum(axis=1)], axis=1).astype(np.float32)
    return JetArrays(particles, mask, jets, label.astype(np.int64), classes)


def _isotropic(n: int, rng: np.random.Generator) -> Floats:
    cosine, azimuth = rng.uniform(-1, 1, n), rng.uniform(0, 2 * math.pi, n)
    sine = np.sqrt(1 - cosine**2)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)


def _boost(four: Floats, velocity: Floats) -> Floats:
    """Lorentz boost of ``(E, p)`` by `velocity`: ``E' = g (E + v.p)``, ``p' = p + (g^2/(1+g) v.p + g E) v``."""
    gamma = 1.0 / np.sqrt(1.0 - (velocity**2).sum(axis=1, keepdims=True))
    along = (velocity * four[:, 1:]).sum(axis=1, keepdims=True)
    momentum = four[:, 1:] + (gamma**2 / (1 + gamma) * along + gamma * four[:, :1]) * velocity
    return np.concatenate([gamma * (four[:, :1] + along), momentum], axis=1)


def _pt_eta_phi(four: Floats) -> tuple[Floats, Floats, Floats]:
    pt = np.maximum(np.hypot(four[:, 1], four[:, 2]), 1e-9)
    return pt, np.arcsinh(four[:, 3] / pt), np.arctan2(four[:, 2], four[:, 1])


def _wrap(angle: Floats) -> Floats:
    return np.arctan2(np.sin(angle), np.cos(angle))
