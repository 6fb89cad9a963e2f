from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.jets.features import (
    knn_hyperedges,
    pair_features,
    rotate_about_axis,
    squared_distances,
    wrap_angle,
)


def test_wrapped_angles_are_the_same_angles_within_half_a_turn():
    angle = torch.linspace(-20, 20, 401, dtype=torch.double)
    wrapped = wrap_angle(angle)
    assert wrapped.abs().max() <= math.pi + 1e-12
    assert torch.allclose(torch.sin(wrapped), torch.sin(angle))
    assert torch.allclose(torch.cos(wrapped), torch.cos(angle))


def test_pair_features_equal_their_formulas_pair_by_pair(batch):
    particles, mask, jet_pt = batch["particles"][3:5], batch["mask"][3:5], batch["jet"][3:5, 0]
    features, pair_mask = pair_features(particles, mask, jet_pt)
    for b in range(2):
        column = 0
        for i in range(particles.shape[1]):
            for j in range(i + 1, particles.shape[1]):
                there = bool(mask[b, i] and mask[b, j])
                assert bool(pair_mask[b, column]) is there
                if there:
                    (eta_a, phi_a, z_a), (eta_b, phi_b, z_b) = particles[b, i].tolist(), particles[b, j].tolist()
                    pt = float(jet_pt[b])
                    delta = math.hypot(eta_a - eta_b, phi_a - phi_b)
                    m2 = 2 * z_a * z_b * pt**2 * (math.cosh(eta_a - eta_b) - math.cos(phi_a - phi_b))
                    expected = [
                        math.log(delta),
                        math.log(min(z_a, z_b) * pt * delta),
                        math.log(min(z_a, z_b) / (z_a + z_b)),
                        math.log(m2),
                        math.log(z_a * z_b),
                    ]
                    assert features[b, column].tolist() == pytest.approx(expected, abs=2e-3)
                else:
                    assert not features[b, column].any()
                column += 1


def test_pairs_know_that_phi_is_an_angle():
    particles = torch.tensor([[[0.0, 3.1, 0.5], [0.0, -3.1, 0.5]]])
    features, _ = pair_features(particles, torch.ones(1, 2, dtype=torch.bool), torch.tensor([100.0]))
    assert float(features[0, 0, 0]) == pytest.approx(math.log(2 * math.pi - 6.2), abs=1e-4)


def test_particles_in_one_place_give_finite_features():
    particles = torch.tensor([0.1, 0.1, 0.25]).expand(1, 4, 3).clone()
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert pair_features(particles, mask, torch.tensor([500.0]))[0].isfinite().all()
    assert knn_hyperedges(particles, mask)[1].isfinite().all()


def test_features_of_pairs_and_hyperedges_do_not_change_under_rotation(batch):
    rotated = rotate_about_axis(batch["particles"], torch.linspace(0.1, 6.0, len(batch["mask"])))
    jet_pt = batch["jet"][:, 0]
    before, _ = pair_features(batch["particles"], batch["mask"], jet_pt)
    after, _ = pair_features(rotated, batch["mask"], jet_pt)
    # cosh - cos is Delta^2 / 2 only to leading order, so the mass is left out
    keep = [0, 1, 2, 4]
    assert torch.allclose(before[..., keep], after[..., keep], atol=1e-3)
    assert torch.allclose(squared_distances(batch["particles"]), squared_distances(rotated), atol=1e-5)
    incidence, features, _ = knn_hyperedges(batch["particles"], batch["mask"])
    incidence_after, features_after, _ = knn_hyperedges(rotated, batch["mask"])
    assert torch.equal(incidence, incidence_after)
    assert torch.allclose(features, features_after, atol=1e-3)


def test_hyperedges_equal_a_search_through_all_distances(batch):
    particles, mask = batch["particles"], batch["mask"]
    incidence, features, hyperedge_mask = knn_hyperedges(particles, mask, n_neighbours=3)
    for b in range(len(mask)):
        present = [i for i in range(mask.shape[1]) if mask[b, i]]
        for e in range(mask.shape[1]):
            found = incidence[b, :, e].nonzero().flatten().tolist()
            if len(present) < 3 or e not in present:
                assert not found
                assert not hyperedge_mask[b, e]
                assert not features[b, e].any()
                continue

            def distance(i, j, b=b):
                return math.dist(particles[b, i, :2].tolist(), particles[b, j, :2].tolist())

            nearest = sorted((i for i in present if i != e), key=lambda i, e=e: distance(e, i))[:3]
            members = [e, *nearest]
            assert found == sorted(members)
            widest = max(distance(i, j) for i in members for j in members)
            weight = sum(math.log(float(particles[b, i, 2])) for i in members)
            assert features[b, e].tolist() == pytest.approx([math.log(widest), weight], abs=1e-3)


def test_hyperedges_do_not_outgrow_a_padding_narrower_than_the_neighbourhood():
    particles, mask = torch.rand(2, 2, 3), torch.ones(2, 2, dtype=torch.bool)
    incidence, features, hyperedge_mask = knn_hyperedges(particles, mask, n_neighbours=3)
    assert incidence.shape == (2, 2, 2)
    assert not incidence.any()
    assert not features.any()
    assert not hyperedge_mask.any()


def test_rotation_keeps_radii_and_turns_by_the_angle():
    particles = torch.tensor([[[0.3, 0.0, 0.5]]])
    turned = rotate_about_axis(particles, torch.tensor([math.pi / 2]))
    assert torch.allclose(turned, torch.tensor([[[0.0, 0.3, 0.5]]]), atol=1e-6)


def test_the_mass_and_kt_of_a_pair_are_those_of_its_four_vectors(batch):
    """In double precision from (E, px, py, pz) of massless particles at any pseudorapidity of the jet."""
    particles, mask, jet_pt = batch["particles"][4:], batch["mask"][4:], batch["jet"][4:, 0]
    features, pair_mask = pair_features(particles, mask, jet_pt)
    eta, phi, ptrel = particles.double().unbind(-1)
    pt = ptrel * jet_pt.double()[:, None]
    eta, phi = eta + 1.3, phi + 2.9  # where the jet is does not matter, nor that phi passes pi
    momentum = torch.stack([pt * torch.cosh(eta), pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(eta)], -1)
    first, second = torch.triu_indices(30, 30, offset=1)
    total = momentum[:, first] + momentum[:, second]
    m2 = total[..., 0] ** 2 - total[..., 1:].square().sum(-1)
    # far enough apart that the difference of squares has digits left
    apart = pair_mask & (features[..., 0] > math.log(0.02))
    assert apart.sum() > 1000
    assert torch.allclose(features[..., 3][apart].double(), m2[apart].log(), atol=1e-3)
    wrapped = torch.atan2(torch.sin(phi[:, first] - phi[:, second]), torch.cos(phi[:, first] - phi[:, second]))
    kt = torch.minimum(pt[:, first], pt[:, second]) * torch.hypot(eta[:, first] - eta[:, second], wrapped)
    assert torch.allclose(features[..., 1][apart].double(), kt[apart].log(), atol=1e-3)
