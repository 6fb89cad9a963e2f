from __future__ import annotations

import math

import pytest
import torch

from stablelit.functional.embeddings import (
    alignment,
    contrast_top1,
    dead_fraction,
    pair_geometry,
    positive_negative_cosine,
    rankme,
    rankme_fraction,
    std_ratio,
    uniformity,
)


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    z0 = torch.randn(9, 5, generator=generator)
    return z0, z0 + 0.8 * torch.randn(9, 5, generator=generator)


def test_the_geometry_of_pairs_is_what_each_says_alone(views):
    found = pair_geometry(torch.cat(views))
    positive, negative = positive_negative_cosine(*views)
    both = torch.cat(views)
    alone = {
        "std_ratio": std_ratio(both),
        "uniform": uniformity(views[0]),
        "pos_cos": positive,
        "neg_cos": negative,
        "top1": contrast_top1(*views),
    }
    assert {k: float(v) for k, v in found.items()} == pytest.approx({k: float(v) for k, v in alone.items()}, rel=1e-5)


def test_one_point_for_all_has_no_geometry():
    found = {k: float(v) for k, v in pair_geometry(torch.ones(12, 3)).items()}
    assert found == pytest.approx({"std_ratio": 0, "uniform": 0, "pos_cos": 1, "neg_cos": 1, "top1": 0}, abs=1e-5)


def unit(z):
    return [row / row.norm() for row in z.double()]


def test_alignment_is_the_mean_squared_distance_of_views(views):
    expected = sum(float((x - y).square().sum()) for x, y in zip(*map(unit, views), strict=True)) / 9
    assert float(alignment(*views)) == pytest.approx(expected, rel=1e-5)


def test_uniformity_is_the_mean_over_all_pairs(views):
    rows = unit(views[0])
    kernel = [math.exp(-2 * float((rows[i] - rows[j]).square().sum())) for i in range(9) for j in range(i)]
    assert float(uniformity(views[0])) == pytest.approx(math.log(sum(kernel) / len(kernel)), rel=1e-5)


def test_positive_and_negative_cosines_are_those_of_the_loops(views):
    rows = unit(torch.cat(views))
    positive = [float(rows[i] @ rows[i + 9]) for i in range(9)]
    negative = [float(rows[i] @ rows[j]) for i in range(18) for j in range(18) if j % 9 != i % 9]
    told = positive_negative_cosine(*views)
    assert float(told[0]) == pytest.approx(sum(positive) / 9, rel=1e-5)
    assert float(told[1]) == pytest.approx(sum(negative) / len(negative), abs=1e-6)


def test_top1_asks_each_row_for_its_nearest_of_the_other_view(views):
    u, v = map(unit, views)
    right = 0
    for i in range(9):
        right += max(range(9), key=lambda j: float(u[i] @ v[j])) == i
        right += max(range(9), key=lambda j: float(v[i] @ u[j])) == i
    assert 0 < right < 18
    assert float(contrast_top1(*views)) == pytest.approx(right / 18)


def test_rankme_is_that_of_the_singular_values(views):
    for z in (views[0], views[0].T):
        sigma = torch.linalg.svdvals(z.double())
        p = sigma / sigma.sum() + 1e-7
        expected = math.exp(-float((p * p.log()).sum()))
        assert float(rankme(z)) == pytest.approx(expected, rel=1e-6)
        assert float(rankme_fraction(z)) == pytest.approx(expected / 5, rel=1e-6)


def test_rankme_counts_equal_directions_and_no_rounding():
    assert float(rankme(torch.eye(64)[:, :12].repeat(9, 1))) == pytest.approx(12, rel=1e-4)
    line = torch.randn(512, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 128)
    assert float(rankme(line)) == pytest.approx(1.0, abs=1e-3)


def test_rankme_does_not_centre():
    # one point beside the origin is a direction
    assert float(rankme(torch.eye(2).repeat(8, 1))) == pytest.approx(2.0, rel=1e-4)


def test_std_ratio_is_1_for_an_even_spread_and_never_more(views):
    cross = torch.cat([torch.eye(4), -torch.eye(4)])
    assert float(std_ratio(7 * cross)) == pytest.approx(1.0, abs=1e-6)
    rows = torch.stack(unit(views[0]))
    expected = rows.std(dim=0, correction=0).mean() * math.sqrt(5)
    assert float(std_ratio(views[0])) == pytest.approx(float(expected), rel=1e-5)
    assert float(expected) < 1


def test_one_point_for_all_is_seen_as_such():
    one = torch.tensor([1.0, -2.0, 0.5]).repeat(6, 1)
    assert float(std_ratio(one)) == pytest.approx(0.0, abs=1e-6)
    assert float(uniformity(one)) == pytest.approx(0.0, abs=1e-5)
    assert float(alignment(one, one)) == 0.0
    assert float(contrast_top1(one, one)) == 0.0
    assert [float(c) for c in positive_negative_cosine(one, one)] == pytest.approx([1.0, 1.0])
    assert float(rankme(one)) == pytest.approx(1.0, abs=1e-4)


def test_dead_units_are_those_that_never_fire():
    h = torch.tensor([[0.0, 1.0, 0.0, -0.0], [0.0, 0.0, 2.0, 0.0]])
    assert float(dead_fraction(h)) == 0.5
    assert float(dead_fraction(h[:, :, None, None])) == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_change_nothing_but_the_input(views, dtype):
    z0, z1 = (z.to(dtype) for z in views)
    expected = measures(z0.float(), z1.float())
    with torch.autocast("cpu", torch.bfloat16):
        told = measures(z0, z1)
    assert all(value.dtype == torch.float32 and value.dim() == 0 for value in told)
    assert [float(v) for v in told] == [float(v) for v in expected]


def measures(z0, z1):
    return (
        alignment(z0, z1),
        uniformity(z0),
        rankme(z0),
        rankme_fraction(z0),
        std_ratio(z0),
        *positive_negative_cosine(z0, z1),
        contrast_top1(z0, z1),
        dead_fraction(z0),
    )


def test_what_is_not_finite_or_too_few_never_raises(views):
    broken = views[0].clone()
    broken[2, 1] = math.inf
    told = measures(broken, views[1])
    assert all(math.isnan(float(v)) for v in (told[0], told[2], told[4], told[5]))
    assert math.isnan(float(uniformity(views[0][:1])))
    assert math.isnan(float(positive_negative_cosine(views[0][:1], views[1][:1])[1]))
    assert float(rankme(torch.zeros(6, 4))) == pytest.approx(1.0, abs=1e-4)


def test_double_stays_double(views):
    assert all(v.dtype == torch.float64 for v in measures(*(z.double() for z in views))[:-1])
