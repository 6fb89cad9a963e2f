from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.families.neutrinos.angles import angle_between, azimuth_zenith_of, direction_of, length, unit_vector

KINDS = ["numpy", "torch"]


def of_kind(values, kind, single=False):
    values = np.asarray(values, dtype=np.float32 if single else np.float64)
    return values if kind == "numpy" else torch.from_numpy(values)


def isotropic(n, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_angles_of_a_direction_are_those_it_was_made_of_whatever_its_length(kind):
    rng = np.random.default_rng(0)
    azimuth, zenith = rng.uniform(0, 2 * np.pi, 500), np.arccos(rng.uniform(-1, 1, 500))
    n = direction_of(of_kind(azimuth, kind), of_kind(zenith, kind))
    assert type(n) is (np.ndarray if kind == "numpy" else torch.Tensor)
    for scale in (1.0, 1e-12, 1e12):
        found = azimuth_zenith_of(n * scale)
        np.testing.assert_allclose(np.asarray(found[0]), azimuth, atol=1e-12)
        np.testing.assert_allclose(np.asarray(found[1]), zenith, atol=1e-12)


def test_directions_are_those_of_the_convention():
    n = direction_of(np.array([0.0, np.pi / 2, 1.0, 1.0]), np.array([np.pi / 2, np.pi / 2, 0.0, np.pi]))
    np.testing.assert_allclose(n, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]], atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("single", [True, False])
def test_angles_stay_in_their_ranges_beside_the_seam_and_at_the_poles(kind, single):
    tiny = [0.0, -0.0, 1e-30, -1e-30, 1e-9, -1e-9, 1e-8, -1e-8, 1e-7, -1e-7, 2e-7, -2e-7, 1e-6, -1e-6]
    corners = [[x, y, z] for x in (1.0, -1.0, 0.0) for y in tiny for z in (0.0, 1.0, -1.0)]
    azimuth, zenith = azimuth_zenith_of(of_kind(corners, kind, single))
    azimuth, zenith = np.asarray(azimuth), np.asarray(zenith)
    assert azimuth.dtype == zenith.dtype == (np.float32 if single else np.float64)
    # as float64: the float32 next to 2 pi lies above it
    assert (azimuth.astype(float) >= 0).all()
    assert (azimuth.astype(float) < 2 * math.pi).all()
    assert (zenith.astype(float) >= 0).all()
    assert (zenith.astype(float) <= math.pi).all()
    expected = np.arctan2(np.array(corners)[:, 1], np.array(corners)[:, 0])
    assert np.abs(np.exp(1j * azimuth) - np.exp(1j * expected))[:28].max() < 1e-6


def test_numpy_and_torch_give_the_same_angles():
    u, v = isotropic(200, 1), isotropic(200, 2)
    np.testing.assert_allclose(angle_between(u, v), angle_between(*map(torch.from_numpy, (u, v))), rtol=1e-14)
    np.testing.assert_allclose(unit_vector(3 * u), unit_vector(torch.from_numpy(u) * 5), rtol=1e-14)


def test_the_angle_is_exact_at_every_size():
    u = isotropic(60)
    aside = np.cross(u, isotropic(60, 1))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    for angle in (1e-12, 1e-6, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-6, math.pi):
        v = math.cos(angle) * u + math.sin(angle) * aside
        np.testing.assert_allclose(angle_between(u, v), angle, rtol=1e-3 if angle < 1e-9 else 1e-8)
        single = angle_between(torch.from_numpy(u).float(), torch.from_numpy(v).float())
        np.testing.assert_allclose(single, angle, atol=5e-7)


def test_the_gradient_of_the_angle_has_length_one_and_is_zero_where_it_cannot_have_a_direction():
    u = torch.from_numpy(isotropic(40)).float()
    aside = torch.linalg.cross(u, torch.from_numpy(isotropic(40, 1)).float())
    aside = aside / aside.norm(dim=-1, keepdim=True)
    for angle in (1e-4, 1e-2, 1.0, 3.0, math.pi - 1e-4):
        v = math.cos(angle) * u + math.sin(angle) * aside
        f = v.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(angle_between(unit_vector(f), u).sum(), f)
        torch.testing.assert_close(gradient.norm(dim=-1), torch.ones(40), rtol=2e-2, atol=0)
        turned = unit_vector(v - 0.3 * angle * gradient)
        assert (angle_between(turned, u) < angle).all()
    for sign in (1.0, -1.0):
        f = (sign * u).clone().requires_grad_()
        found = angle_between(f, u)
        (gradient,) = torch.autograd.grad(found.sum(), f)
        torch.testing.assert_close(found, torch.full((40,), 0.0 if sign > 0 else math.pi), rtol=0, atol=0)
        assert gradient.isfinite().all()
        assert (gradient.norm(dim=-1) < 1e-5).all()


def test_the_zero_vector_stays_zero_and_is_a_right_angle_from_everything():
    zero = torch.zeros(3, requires_grad=True)
    n = unit_vector(zero)
    found = angle_between(n, torch.tensor([0.0, 0.0, 1.0]))
    assert (n == 0).all()
    assert found.item() == pytest.approx(math.pi / 2)
    (gradient,) = torch.autograd.grad(found, zero)
    assert gradient.isfinite().all()
    (gradient,) = torch.autograd.grad(length(zero), zero)
    assert (gradient == 0).all()
    assert (unit_vector(np.zeros(3)) == 0).all()


def test_half_precision_is_computed_in_single():
    u = torch.from_numpy(isotropic(10)).to(torch.bfloat16)
    assert angle_between(unit_vector(u), unit_vector(u)).dtype == torch.float32
    assert azimuth_zenith_of(u)[0].dtype == torch.float32
    assert (angle_between(unit_vector(u), unit_vector(u)) == 0).all()
