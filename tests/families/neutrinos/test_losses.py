from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.angles import direction_of
from stablelit.families.neutrinos.losses import (
    SERIES_BELOW,
    acos_loss,
    acos_loss_clamped_inside,
    angle_plus_von_mises_fisher,
    angular_loss,
    energy_loss,
    mean_over_known,
    track_loss,
    von_mises_fisher_nll,
)

KAPPAS = np.concatenate([np.geomspace(1e-6, 1e6, 241), np.linspace(0.2, 2.0, 361), [SERIES_BELOW]]).astype(np.float32)

SOUND = [von_mises_fisher_nll, angular_loss, angle_plus_von_mises_fisher]


def isotropic(n, seed=0):
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def at_angle(t, angle):
    aside = torch.linalg.cross(t.double(), isotropic(len(t), 5).double())
    aside = aside / aside.norm(dim=-1, keepdim=True)
    return (math.cos(angle) * t.double() + math.sin(angle) * aside).to(t.dtype)


def reference_nll(f, t):
    """The density's definition in fifty digits."""
    f, t = [mpmath.mpf(float(x)) for x in f], [mpmath.mpf(float(x)) for x in t]
    kappa, size = mpmath.sqrt(sum(x * x for x in f)), mpmath.sqrt(sum(x * x for x in t))
    constant = kappa / (4 * mpmath.pi * mpmath.sinh(kappa))
    return -mpmath.log(constant) - sum(a * b for a, b in zip(f, t, strict=True)) / size


def reference_gradient(f, t):
    f, t = [mpmath.mpf(float(x)) for x in f], [mpmath.mpf(float(x)) for x in t]
    kappa, size = mpmath.sqrt(sum(x * x for x in f)), mpmath.sqrt(sum(x * x for x in t))
    mean = mpmath.coth(kappa) - 1 / kappa
    return [mean * a / kappa - b / size for a, b in zip(f, t, strict=True)]


def test_value_and_gradient_of_the_normaliser_are_right_to_a_millionth_at_every_kappa():
    kappa = torch.from_numpy(KAPPAS)
    zero = torch.zeros_like(kappa)
    f = torch.stack([kappa, zero, zero], dim=-1).requires_grad_()
    # at a right angle f . t is 0: what is left is the normaliser, and along f its derivative
    t = torch.tensor([0.0, 1.0, 0.0]).expand_as(f)
    found = von_mises_fisher_nll(f, t)
    (gradient,) = torch.autograd.grad(found.sum(), f)
    with mpmath.workdps(50):
        values = [reference_nll(*pair) for pair in zip(f.tolist(), t.tolist(), strict=True)]
        slopes = [reference_gradient(*pair)[0] for pair in zip(f.tolist(), t.tolist(), strict=True)]
        error = [abs(mpmath.mpf(a) / b - 1) for a, b in zip(found.tolist(), values, strict=True)]
        slope_error = [abs(mpmath.mpf(a) / b - 1) for a, b in zip(gradient[:, 0].tolist(), slopes, strict=True)]
    assert max(error) <= 1e-6
    assert max(slope_error) <= 1e-6


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.1, 1.0, 3.0, math.pi])
def test_value_and_gradient_are_the_definition_s_at_every_angle(angle):
    kappa = torch.from_numpy(KAPPAS[::7])
    t = isotropic(len(kappa))
    f = (kappa[:, None] * at_angle(t, angle)).requires_grad_()
    found = von_mises_fisher_nll(f, t)
    (gradient,) = torch.autograd.grad(found.sum(), f)
    with mpmath.workdps(50):
        values = np.array([float(reference_nll(*pair)) for pair in zip(f.tolist(), t.tolist(), strict=True)])
        slopes = np.array(
            [[float(x) for x in reference_gradient(*p)] for p in zip(f.tolist(), t.tolist(), strict=True)]
        )
    # the numbers that come in are rounded: they say the angle to 1e-7 rad, the loss to kappa sin(angle) times that
    unsure = KAPPAS[::7] * (2e-7 * math.sin(angle) + 1e-13)
    assert (np.abs(found.detach().numpy() - values) <= 1e-6 * np.abs(values) + unsure + 2e-6).all()
    assert (np.abs(gradient.numpy() - slopes).max(axis=1) <= 1e-6 * np.abs(slopes).max(axis=1) + 3e-7).all()


def test_the_density_integrates_to_one_over_the_sphere():
    nodes, weights = np.polynomial.legendre.leggauss(200)
    for kappa in (0.0, 0.3, SERIES_BELOW, 2.0, 30.0):
        azimuth, cosine = np.meshgrid(np.arange(64) * 2 * np.pi / 64, nodes)
        t = torch.from_numpy(direction_of(azimuth, np.arccos(cosine))).flatten(0, 1)
        f = kappa * torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64).expand_as(t)
        density = torch.exp(-von_mises_fisher_nll(f, t)).reshape(200, 64)
        total = (density * torch.from_numpy(weights)[:, None]).sum() * 2 * np.pi / 64
        assert float(total) == pytest.approx(1.0, abs=1e-10)


def test_where_nothing_is_known_the_loss_is_that_of_the_uniform_sphere_and_points_at_the_truth():
    t = isotropic(5)
    f = torch.zeros(5, 3, requires_grad=True)
    found = von_mises_fisher_nll(f, t)
    torch.testing.assert_close(found, torch.full((5,), math.log(4 * math.pi)))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), f)[0], -t)


def test_both_branches_pass_the_numerical_check_of_first_and_second_derivatives():
    t = isotropic(8).double()
    kappa = torch.tensor([1e-3, 0.3, SERIES_BELOW - 1e-3, SERIES_BELOW + 1e-3, 1.5, 10.0, 50.0, 150.0])
    f = (kappa[:, None] * isotropic(8, 1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: von_mises_fisher_nll(f, t), f)
    assert torch.autograd.gradgradcheck(lambda f: von_mises_fisher_nll(f, t), f)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0.1, 1.0, 8.0])
def test_kappa_settles_where_the_errors_are_and_not_at_a_hundred(degrees):
    t = isotropic(2000).double()
    n = at_angle(t, math.radians(degrees))
    # log density is stationary where coth kappa - 1 / kappa is the mean cosine; for small errors 1 / (1 - cos)
    expected = 1.0 / (1.0 - math.cos(math.radians(degrees)))
    log_kappa = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    for _ in range(60):
        slope = torch.autograd.grad(von_mises_fisher_nll(log_kappa.exp() * n, t).mean(), log_kappa, create_graph=True)[
            0
        ]
        bend = torch.autograd.grad(slope, log_kappa)[0]
        step = (slope / bend.abs().clamp_min(0.1)).clamp(-1, 1)
        log_kappa = (log_kappa - step).detach().requires_grad_()
    assert log_kappa.exp().item() == pytest.approx(expected, rel=0.02)


def test_the_angle_is_the_loss_whatever_the_length_of_the_prediction():
    t = isotropic(20)
    for angle in (1e-4, 0.3, 2.0, 3.1):
        n = at_angle(t, angle)
        for kappa in (1e-3, 1.0, 1e4):
            torch.testing.assert_close(angular_loss(kappa * n, t), torch.full((20,), angle), rtol=1e-5, atol=3e-7)


def test_the_usual_arc_cosine_has_no_gradient_at_exact_agreement_and_ours_has():
    for sign in (1.0, -1.0):
        t = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        gradients = {}
        for loss in (acos_loss, acos_loss_clamped_inside, angular_loss):
            f = (sign * 2.0 * t).requires_grad_()
            (gradients[loss],) = torch.autograd.grad(loss(f, t).sum(), f)
        assert gradients[acos_loss].isnan().any()
        assert (gradients[acos_loss_clamped_inside] == 0).all()
        assert (gradients[angular_loss].abs() < 1e-6).all()


def test_the_arc_cosine_that_is_clamped_inside_learns_nothing_below_0_81_degrees():
    t = isotropic(50).double()
    edge = math.degrees(math.acos(1 - 1e-4))
    assert edge == pytest.approx(0.81, abs=0.005)
    for degrees, learns in ((0.99 * edge, False), (1.01 * edge, True)):
        f = at_angle(t, math.radians(degrees)).requires_grad_()
        found = acos_loss_clamped_inside(f, t)
        (gradient,) = torch.autograd.grad(found.sum(), f)
        assert bool((gradient.norm(dim=-1) > 0.9).all()) is learns
        assert bool((gradient == 0).all()) is not learns
        assert found.min() >= 0.01414
        f = f.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(angular_loss(f, t).sum(), f)
        torch.testing.assert_close(gradient.norm(dim=-1), torch.ones(50, dtype=torch.float64), rtol=1e-6, atol=0)


def test_away_from_the_ends_all_three_angles_are_one():
    t = isotropic(300)
    f = 3.0 * isotropic(300, 1)
    torch.testing.assert_close(acos_loss(f, t), angular_loss(f, t), rtol=0, atol=2e-4)
    torch.testing.assert_close(acos_loss_clamped_inside(f, t), angular_loss(f, t), rtol=0, atol=2e-4)


def test_the_combination_is_the_weighted_sum():
    t, f = isotropic(10), 5.0 * isotropic(10, 1)
    expected = angular_loss(f, t) + 0.3 * von_mises_fisher_nll(f, t)
    torch.testing.assert_close(angle_plus_von_mises_fisher(f, t, weight=0.3), expected)
    torch.testing.assert_close(angle_plus_von_mises_fisher(f, t, weight=0.0), angular_loss(f, t))
    for weight in (-0.1, float("nan"), "0.05"):
        with pytest.raises(ConfigurationError, match="angle_plus_von_mises_fisher: weight="):
            angle_plus_von_mises_fisher(f, t, weight=weight)


@pytest.mark.parametrize("loss", [*SOUND, acos_loss, acos_loss_clamped_inside])
def test_every_loss_is_computed_in_single_precision_under_autocast(loss):
    t = isotropic(30)
    f = (20.0 * at_angle(t, 0.02)).to(torch.bfloat16)
    expected = loss(f.float(), t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(f.requires_grad_(), t)
    assert found.dtype == torch.float32
    assert found.shape == (30,)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    found.sum().backward()
    assert f.grad is not None
    assert f.grad.isfinite().all()
    assert loss(f.detach().double(), t.double()).dtype == torch.float64


@pytest.mark.parametrize("loss", SOUND)
def test_no_length_or_angle_makes_a_gradient_that_is_not_finite(loss):
    t = isotropic(6)
    for kappa in (0.0, 1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e12):
        for angle in (0.0, 1e-7, 1.0, math.pi):
            f = (kappa * at_angle(t, angle)).requires_grad_()
            found = loss(f, t)
            (gradient,) = torch.autograd.grad(found.sum(), f)
            assert found.isfinite().all()
            assert gradient.isfinite().all()


def test_no_loss_looks_at_a_value_on_the_host():
    # a meta tensor has no values: whatever would wait for one raises
    f = torch.zeros(4, 3, device="meta", requires_grad=True)
    t = torch.zeros(4, 3, device="meta")
    for loss in (*SOUND, acos_loss, acos_loss_clamped_inside):
        loss(f, t).sum().backward()
    for head in (energy_loss, track_loss):
        mean_over_known(head(f[:, 0], t[:, 0]), t[:, 0]).backward()


def test_events_without_a_truth_cost_nothing_and_train_nothing():
    nan = float("nan")
    truth = torch.tensor([1.0, nan, 3.0, 0.0])
    predicted = torch.tensor([1.5, 7.0, 0.0, 0.0], requires_grad=True)
    losses = energy_loss(predicted, truth)
    torch.testing.assert_close(losses, torch.tensor([0.125, 0.0, 2.5, 0.0]))
    mean = mean_over_known(losses, truth)
    assert mean.item() == pytest.approx(2.625 / 3)
    torch.testing.assert_close(torch.autograd.grad(mean, predicted)[0], torch.tensor([0.5, 0.0, -1.0, 0.0]) / 3)

    is_track = torch.tensor([1.0, nan, 0.0])
    logit = torch.tensor([2.0, 5.0, -60.0], requires_grad=True)
    losses = track_loss(logit, is_track)
    torch.testing.assert_close(losses, torch.tensor([math.log1p(math.exp(-2.0)), 0.0, 0.0]))
    (gradient,) = torch.autograd.grad(losses.sum(), logit)
    torch.testing.assert_close(gradient, torch.tensor([torch.sigmoid(torch.tensor(2.0)) - 1.0, 0.0, 0.0]))

    none = torch.full((3,), nan)
    assert float(mean_over_known(track_loss(logit, none), none)) == 0.0
