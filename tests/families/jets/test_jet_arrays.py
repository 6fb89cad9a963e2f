from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stablelit.errors import DataError


def changed(jets, index, value, field="particles"):
    array = getattr(jets, field).copy()
    array[index] = value
    return replace(jets, **{field: array})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_jet_particle_and_feature(toy_jets, value):
    with pytest.raises(DataError, match=r"mine\.h5: jet 17, particle 4 has phirel="):
        changed(toy_jets, (17, 4, 1), value).validate("mine.h5")


def test_a_present_particle_without_momentum_is_named(toy_jets):
    with pytest.raises(DataError, match=r"jet 3, particle 2 has ptrel=-0\.5"):
        changed(toy_jets, (3, 2, 2), -0.5).validate("x")


def test_momentum_behind_the_mask_is_named(toy_jets):
    with pytest.raises(DataError, match=r"jet 5, particle 0 .* absent"):
        changed(toy_jets, (5, 0), False, "mask").validate("x")


def test_momenta_in_gev_are_recognised(toy_jets):
    particles = toy_jets.particles.copy()
    particles[..., 2] *= toy_jets.jet[:, :1]
    with pytest.raises(DataError, match="GeV"):
        replace(toy_jets, particles=particles).validate("x")


def test_absolute_angles_are_recognised(toy_jets):
    for feature, name in ((0, "etarel"), (1, "phirel")):
        particles = toy_jets.particles.copy()
        particles[..., feature] += 1.4 * toy_jets.mask
        with pytest.raises(DataError, match=name):
            replace(toy_jets, particles=particles).validate("x")


def test_angles_that_are_none_name_jet_and_particle(toy_jets):
    with pytest.raises(DataError, match=r"jet 4, particle 1 has etarel=900 \(1 of 300 .*within \+-15"):
        changed(toy_jets, (4, 1, 0), 900.0).validate("x")
    with pytest.raises(DataError, match=r"jet 4, particle 1 has phirel=-20 .*within \+-12\.6.*degrees"):
        changed(toy_jets, (4, 1, 1), -20.0).validate("x")
    # behind the mask nothing flies
    absent = np.argwhere(~toy_jets.mask)[0]
    changed(toy_jets, (*absent, 0), 900.0).validate("x")


def test_angles_are_wrapped(toy_jets):
    particles = toy_jets.particles.copy()
    particles[..., 1] += 2 * np.pi * toy_jets.mask
    wrapped = replace(toy_jets, particles=particles).validate("x")
    assert np.allclose(wrapped.particles, toy_jets.particles, atol=1e-6)


def test_angles_behind_the_mask_are_set_to_zero(toy_jets):
    particles, absent = toy_jets.particles.copy(), ~toy_jets.mask
    assert absent.any()
    particles[absent] = [0.4, -0.2, 0.0]
    assert not replace(toy_jets, particles=particles).validate("x").particles[absent].any()


def test_empty_jets_are_dropped_and_counted(toy_jets):
    holed = changed(changed(toy_jets, [2, 9], False, "mask"), [2, 9], 0.0)
    kept, n_empty = holed.validate("x").without_empty()
    assert n_empty == 2
    assert len(kept) == len(toy_jets) - 2
    assert np.allclose(kept.particles[2], toy_jets.particles[3], atol=1e-6)


def test_a_jet_without_particles_needs_no_momentum_but_one_with_particles_does(toy_jets):
    holed = changed(changed(changed(toy_jets, 6, False, "mask"), 6, 0.0), (6, 0), 0.0, "jet")
    assert len(holed.validate("x").without_empty()[0]) == len(toy_jets) - 1
    with pytest.raises(DataError, match="jet 7 has pt=0"):
        changed(toy_jets, (7, 0), 0.0, "jet").validate("x")


def test_hardest_keeps_the_largest_momenta_whatever_their_order(toy_jets):
    rng = np.random.default_rng(0)
    order = rng.permutation(toy_jets.n_particles)
    mixed = replace(toy_jets, particles=toy_jets.particles[:, order], mask=toy_jets.mask[:, order])
    kept, lost = mixed.hardest(10)
    assert np.array_equal(kept.particles, toy_jets.particles[:, :10])
    total = toy_jets.particles[..., 2].sum()
    assert lost == pytest.approx(1 - kept.particles[..., 2].sum() / total, abs=1e-6)
    padded, lost = toy_jets.hardest(40)
    assert padded.particles.shape[1] == 40
    assert lost == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("particles", np.zeros((300, 30, 4), np.float32), r"\(300, 30, 4\)"),
        ("mask", np.zeros((300, 29), bool), "mask"),
        ("jet", np.zeros((299, 4), np.float32), "jet has shape"),
        ("label", np.full(300, 3), "jet 0 has label 3"),
    ],
)
def test_wrong_shapes_and_labels_are_named(toy_jets, field, value, message):
    with pytest.raises(DataError, match=message):
        replace(toy_jets, **{field: value}).validate("x")
