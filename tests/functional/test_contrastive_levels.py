from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.functional.contrastive_levels import (
    chance_byol,
    chance_clip,
    chance_cross_entropy,
    chance_dcl,
    chance_info_nce,
    chance_nt_xent,
    chance_supcon,
    contrastive_level,
    excess,
    floor_clip,
    floor_dcl,
    floor_nt_xent,
    isotropic_nt_xent,
)


def similarities(z):
    u = z / z.norm(dim=1, keepdim=True)
    return u @ u.T


def losses(z, temperature):
    """NT-Xent and its decoupled form by their definitions, anchor by anchor; rows i and i + N belong together."""
    s, n = similarities(z) / temperature, len(z) // 2
    nt_xent, dcl = 0.0, 0.0
    for i in range(2 * n):
        p = (i + n) % (2 * n)
        negatives = [s[i, j].exp() for j in range(2 * n) if j not in (i, p)]
        nt_xent += (sum(negatives) + s[i, p].exp()).log() - s[i, p]
        dcl += sum(negatives).log() - s[i, p]
    return float(nt_xent) / (2 * n), float(dcl) / (2 * n)


def clip(u, v, temperature):
    s = (u / u.norm(dim=1, keepdim=True)) @ (v / v.norm(dim=1, keepdim=True)).T / temperature
    own = torch.arange(len(u))
    return float(torch.nn.functional.cross_entropy(s, own) + torch.nn.functional.cross_entropy(s.T, own)) / 2


def simplex(n):
    return torch.eye(n, dtype=torch.float64) - 1.0 / n


@pytest.mark.parametrize("temperature", [0.07, 0.2, 0.5, 1.0])
def test_one_point_for_all_is_at_chance_at_every_temperature(temperature):
    nt_xent, dcl = losses(torch.ones(12, 3, dtype=torch.float64), temperature)
    assert nt_xent == pytest.approx(chance_nt_xent(6), abs=1e-12)
    assert dcl == pytest.approx(chance_dcl(6), abs=1e-12)
    one = torch.ones(6, 3, dtype=torch.float64)
    assert clip(one, one, temperature) == pytest.approx(chance_clip(6), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_a_regular_simplex_is_at_the_floor(temperature):
    corners = simplex(5)
    nt_xent, dcl = losses(torch.cat([corners, corners]), temperature)
    assert nt_xent == pytest.approx(floor_nt_xent(5, temperature), rel=1e-12)
    assert dcl == pytest.approx(floor_dcl(5, temperature), rel=1e-12)
    assert clip(corners, corners, temperature) == pytest.approx(floor_clip(5, temperature), rel=1e-12)


def test_no_embeddings_found_by_descent_fall_below_the_floor():
    torch.manual_seed(0)
    z = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        s = similarities(z) / 0.5
        s = s - torch.diag_embed(torch.full((8,), torch.inf, dtype=torch.float64))
        loss = torch.nn.functional.cross_entropy(s, torch.arange(8).roll(4))
        loss.backward()
        return loss

    optimizer.step(closure)
    best = losses(z.detach(), 0.5)[0]
    assert best >= floor_nt_xent(4, 0.5)
    assert best == pytest.approx(floor_nt_xent(4, 0.5), abs=1e-5)


@pytest.mark.parametrize(("n", "temperature"), [(32, "0.5"), (128, "0.07"), (65536, "0.01"), (2, "10")])
def test_the_floor_has_the_digits_of_fifty_digit_arithmetic(n, temperature):
    with localcontext() as context:
        context.prec = 50
        share = (-(1 + 1 / Decimal(n - 1)) / Decimal(temperature)).exp()
        exact = float((1 + (2 * n - 2) * share).ln())
    assert floor_nt_xent(n, float(temperature)) == pytest.approx(exact, rel=1e-12, abs=0)


def test_extreme_settings_are_finite():
    assert floor_nt_xent(2, 1e-3) == 0.0
    assert excess(chance_nt_xent(65536), 65536, 0.01) == 1.0


def test_excess_is_1_at_chance_0_at_the_floor_and_above_1_beyond():
    assert excess(chance_nt_xent(32), 32, 0.5) == pytest.approx(1.0, abs=1e-15)
    assert excess(floor_nt_xent(32, 0.5), 32, 0.5) == 0.0
    assert excess(4.5, 32, 0.5) > 1


def test_excess_undoes_the_scale_of_other_peoples_code():
    # a healthy run of 1024 pairs that was reported as stuck, in a code that multiplies by T / 0.07
    assert excess(43.2, 1024, 0.5, scale=0.5 / 0.07) == pytest.approx((43.2 - 40.18) / (54.46 - 40.18), abs=2e-3)
    assert excess(2 * 3.0, 32, 0.5, scale=2.0) == pytest.approx(excess(3.0, 32, 0.5))


def test_excess_of_a_tensor_stays_one():
    value = excess(torch.tensor([3.0, 4.0]), 32, 0.5)
    assert value.tolist() == pytest.approx([excess(3.0, 32, 0.5), excess(4.0, 32, 0.5)], rel=1e-6)


def test_spread_views_that_know_nothing_of_each_other_are_above_chance():
    generator = torch.Generator().manual_seed(0)
    n, t, d = 256, 0.2, 128
    z = torch.randn(2 * n, d, generator=generator, dtype=torch.float64)
    s = similarities(z) / t
    # over all ways to pair them: a positive is any other row
    positive = (s.sum() - s.trace()) / (2 * n * (2 * n - 1))
    s.fill_diagonal_(-torch.inf)
    loss = float(torch.logsumexp(s, dim=1).mean() - positive)
    assert loss == pytest.approx(isotropic_nt_xent(n, t, d), abs=5e-3)
    assert loss > chance_nt_xent(n) + 0.05


def test_the_other_levels():
    assert chance_info_nce(65536) == math.log(65537)
    assert chance_supcon(64) == math.log(127)
    assert chance_cross_entropy(20) == math.log(20)
    assert chance_byol() == 4.0
    assert chance_byol(1) == 2.0


@pytest.mark.parametrize(
    ("kind", "chance", "floor"),
    [
        ("nt_xent", chance_nt_xent(8), floor_nt_xent(8, 0.2)),
        ("dcl", chance_dcl(8), floor_dcl(8, 0.2)),
        ("clip", chance_clip(8), floor_clip(8, 0.2)),
        ("supcon", chance_supcon(8), None),
        ("info_nce:100", math.log(101), None),
    ],
)
def test_levels_come_by_name_and_scale(kind, chance, floor):
    level = contrastive_level(kind, 8, 0.2, scale=3.0)
    assert level.chance == level.collapsed == pytest.approx(3 * chance)
    assert level.floor == (None if floor is None else pytest.approx(3 * floor))
    assert level.excess(3 * chance) == pytest.approx(1.0)
    assert contrastive_level(kind, 8).floor is None


def test_a_loss_without_negatives_is_best_where_it_collapsed():
    level = contrastive_level("byol", 8)
    assert (level.chance, level.floor, level.collapsed) == (4.0, 0.0, 0.0)


def test_a_number_is_chance_itself():
    level = contrastive_level(2.5, 8, scale=2.0)
    assert (level.chance, level.floor) == (2.5, None)
    assert level.excess(2.5) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chance_nt_xent(1), r"n_pairs=1 is not allowed. Allowed: an int of 2 or more"),
        (lambda: floor_nt_xent(32, 0.0), r"temperature=0.0 is not allowed. Allowed: a finite number above 0"),
        (lambda: contrastive_level("ntxent", 8), r"kind='ntxent'.*Did you mean 'nt_xent'"),
        (lambda: contrastive_level("info_nce", 8), r"kind='info_nce'.*info_nce:K"),
        (lambda: contrastive_level("clip", 8, 0.1, scale=0), r"scale=0 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
