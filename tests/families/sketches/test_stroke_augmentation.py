"""Strokes that are changed at random: what stays, what goes, and how far everything moves."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.rasterise import fitted, rasterise
from stablelit.families.sketches.stroke_augmentation import StrokeAugment
from stablelit.families.sketches.stroke_batch import StrokeBatch, padded
from stablelit.families.sketches.strokes import Strokes

NOTHING = {
    "drop": 0.0,
    "stroke_jitter": 0.0,
    "point_jitter": 0.0,
    "warp": 0.0,
    "rotation": 0.0,
    "scale": (1.0, 1.0),
    "shear": 0.0,
    "translate": 0.0,
    "width": (1.0, 1.0),
    "probability": 1.0,
}


def only(**how) -> StrokeAugment:
    return StrokeAugment(**{**NOTHING, **how})


def drawings(n: int) -> StrokeBatch:
    """n times one drawing of four strokes, of 2, 3, 4 and 5 points, the later ones shorter, in its square."""
    rng = np.random.default_rng(0)
    strokes = [0.2 + 0.6 * rng.random((k, 2)) / (k - 1) for k in (2, 3, 4, 5)]
    points, begins, mask = padded(Strokes.of([strokes]), np.zeros(n, dtype=np.int64))
    return StrokeBatch(fitted(points, mask), begins, mask)


def left(batch: StrokeBatch) -> torch.Tensor:
    """Which of the four strokes are there, ``(n, 4)``; a stroke is there as a whole or not at all."""
    parts = batch.mask.split((2, 3, 4, 5), dim=1)
    for part in parts:
        assert torch.equal(part.all(1), part.any(1))
    return torch.stack([part.all(1) for part in parts], dim=1)


def test_at_strength_0_a_drawing_stays_as_it_was_fitted():
    before = drawings(3)
    (points, begins, mask), width = only()(*before)
    torch.testing.assert_close(points[mask], before.points[before.mask], atol=1e-6, rtol=0)
    assert torch.equal(begins, before.begins)
    assert torch.equal(mask, before.mask)
    assert torch.equal(width, torch.ones(3))


def test_with_probability_0_the_strongest_changes_do_nothing():
    before = drawings(3)
    augment = StrokeAugment(probability=0.0, drop=0.9, prefix=0.1, stroke_jitter=0.5, point_jitter=0.2, warp=0.2)
    changed, width = augment(*before)
    torch.testing.assert_close(changed.points[changed.mask], before.points[before.mask], atol=1e-6, rtol=0)
    assert torch.equal(changed.mask, before.mask)
    assert torch.equal(width, torch.ones(3))


def test_strokes_are_lost_by_the_law_of_their_place_and_length():
    torch.manual_seed(0)
    n, drop, a, b = 4000, 0.2, 1.5, 2.0
    before = drawings(n)
    found = 1 - left(only(drop=drop, drop_order=a, drop_length=b)(*before)[0]).double().mean(0)
    stroke = before.points[0, before.mask[0]].split((2, 3, 4, 5))
    length = torch.stack([(s[1:] - s[:-1]).norm(dim=1).sum() for s in stroke]).double()
    weight = torch.exp(a * torch.arange(4) / 3 - b * length / length.sum())
    law = drop * 4 * weight / weight.sum()
    # all four are lost, but for the one that stays, once in some thousand drawings
    torch.testing.assert_close(found, law, atol=4 * math.sqrt(0.25 / n), rtol=0)
    assert found.sum() / 4 == pytest.approx(drop, abs=0.015)
    assert found[3] > 2 * found[0]


def test_without_the_law_every_stroke_is_lost_as_often_and_one_always_stays():
    torch.manual_seed(0)
    there = left(only(drop=0.9, drop_order=0.0, drop_length=0.0)(*drawings(4000))[0]).double()
    count = there.sum(1)
    assert count.min() == 1
    # one stays by itself or because the last one must: its place is any
    assert torch.allclose(there[count == 1].mean(0), torch.full((4,), 0.25).double(), atol=0.04)
    nothing, one = 0.9**4, 4 * 0.1 * 0.9**3
    assert float((count == 1).double().mean()) == pytest.approx(nothing + one, abs=0.02)


def test_a_prefix_leaves_the_first_strokes():
    torch.manual_seed(0)
    there = left(only(prefix=0.5)(*drawings(2000))[0]).int()
    assert bool((there[:, :-1] >= there[:, 1:]).all())
    # a share uniform in [1/2, 1] of four strokes, rounded up: three or four, as often
    count = there.sum(1)
    assert sorted(count.unique().tolist()) == [3, 4]
    assert float((count == 3).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_strokes_own_move_keeps_its_form_and_moves_its_mean_as_far_as_is_said():
    torch.manual_seed(0)
    before = drawings(3000)
    after = only(stroke_jitter=0.05)(*before)[0]
    shifts = []
    for was, now in zip(*(b.points[:, :14].split((2, 3, 4, 5), dim=1) for b in (before, after)), strict=True):
        shift = (now - was).mean(1)
        shifts.append(shift)
        was, now = (s - s.mean(1, keepdim=True) for s in (was, now))
        scale = now.norm(dim=-1) / was.norm(dim=-1)
        # all points of a stroke at one factor from its mean, and at one angle
        torch.testing.assert_close(scale, scale[:, :1].expand_as(scale), atol=1e-3, rtol=0)
        assert float(scale[:, 0].log().std()) == pytest.approx(0.05, abs=0.004)
        cross = (was[..., 0] * now[..., 1] - was[..., 1] * now[..., 0]) / was.norm(dim=-1) / now.norm(dim=-1)
        assert float(cross[:, 0].asin().std()) == pytest.approx(0.05, abs=0.004)
        # it turns and grows about its mean, so neither moves the mean
        with_scale = torch.corrcoef(torch.cat([shift, scale[:, :1].log(), cross[:, :1]], dim=1).T)[:2, 2:]
        assert float(with_scale.abs().max()) < 0.08
    shifts = torch.cat(shifts, dim=1)
    torch.testing.assert_close(shifts.std(0), torch.full((8,), 0.05), atol=0.004, rtol=0)
    # strokes move by themselves
    assert float((torch.corrcoef(shifts.T) - torch.eye(8)).abs().max()) < 0.08


def test_points_tremble_each_by_itself():
    torch.manual_seed(0)
    before = drawings(3000)
    shift = (only(point_jitter=0.02)(*before)[0].points - before.points).flatten(1)
    torch.testing.assert_close(shift.std(0), torch.full((28,), 0.02), atol=0.0015, rtol=0)
    assert float((torch.corrcoef(shift.T) - torch.eye(28)).abs().max()) < 0.08


def test_a_warp_moves_neighbours_together_and_as_far_as_is_said():
    torch.manual_seed(0)
    points = torch.rand(1, 6, 2)
    points[0, 1] = points[0, 0] + 0.01
    mask, begins = torch.ones(1, 6, dtype=torch.bool), torch.tensor([[True] + [False] * 5])
    before = [tensor.expand(4000, *tensor.shape[1:]) for tensor in (fitted(points, mask), begins, mask)]
    shift = only(warp=0.03)(*before)[0].points - before[0]
    torch.testing.assert_close(shift.flatten(1).std(0), torch.full((12,), 0.03), atol=0.003, rtol=0)
    # over a small distance d a wave whose frequency is standard normal along both axes turns by 2 pi d on average
    d = float((before[0][0, 0] - before[0][0, 1]).norm())
    assert float((shift[:, 0] - shift[:, 1]).std()) == pytest.approx(0.03 * 2 * math.pi * d, rel=0.05)


def test_the_whole_is_moved_by_one_affine_map_within_its_ranges():
    torch.manual_seed(0)
    before = drawings(500)
    augment = only(rotation=15.0, scale=(0.8, 1.2), shear=0.2, translate=0.1)
    after = augment(*before)[0].points
    home = torch.cat([before.points - 0.5, torch.ones(500, 14, 1)], dim=-1).double()
    solution = torch.linalg.lstsq(home, after.double() - 0.5).solution
    torch.testing.assert_close(home @ solution, after.double() - 0.5, atol=1e-5, rtol=0)
    # rows of the map are images of the axes: x is turned and scaled, y is slanted before
    x, y, shift = solution.unbind(1)
    angle = torch.atan2(x[:, 1], x[:, 0])
    scale = x.norm(dim=1)
    shear = (x * y).sum(1) / scale**2
    for value, bound in (
        (angle, math.radians(15)),
        (scale - 1, 0.2),
        (shear, 0.2),
        (shift[:, 0], 0.1),
        (shift[:, 1], 0.1),
    ):
        assert value.abs().max() <= bound + 1e-5
        assert float(value.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    # the slant keeps areas
    torch.testing.assert_close(torch.linalg.det(solution[:, :2]), scale**2, atol=1e-5, rtol=0)


def test_each_change_happens_to_the_share_of_drawings_that_is_said_by_itself():
    torch.manual_seed(0)
    before = drawings(2000)
    (points, _, _), width = only(probability=0.3, translate=0.2, width=(0.5, 0.9))(*before)
    moved = (points - before.points).abs().amax((1, 2)) > 1e-5
    wider = width != 1
    for share in (moved, wider):
        assert float(share.double().mean()) == pytest.approx(0.3, abs=0.04)
    assert float((moved & wider).double().mean()) == pytest.approx(0.09, abs=0.03)
    assert width[wider].min() >= 0.5
    assert width[wider].max() <= 0.9


def test_views_are_pictures_of_the_same_drawings_at_the_width_that_is_said():
    rng = np.random.default_rng(0)
    batch = padded(Strokes.of([[rng.random((4, 2))] for _ in range(3)]), np.arange(3))
    found = only().views(*batch, size=16, line_width=2.0)
    expected = rasterise(*batch, size=16, line_width=2.0).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    wider = only(width=(1.5, 1.5)).views(*batch, size=16, line_width=2.0)
    torch.testing.assert_close(wider[0], rasterise(*batch, size=16, line_width=3.0), atol=1e-4, rtol=0)
    changed = StrokeAugment(probability=1.0).views(*batch, size=16)
    assert ((changed[0] - changed[1]).abs().amax((1, 2, 3)) > 0.1).all()


def test_what_has_moved_lies_elsewhere_in_the_picture():
    torch.manual_seed(0)
    (ink,) = only(translate=0.05).views(*drawings(1000), size=32)[:1, :, 0]
    at = torch.arange(32.0)
    x = (ink.sum(1) * at).sum(1) / ink.sum((1, 2))
    # uniform within a twentieth of 32 pixels, which the free margin holds
    assert float(x.std()) == pytest.approx(0.05 * 32 / math.sqrt(3), rel=0.06)


def test_a_generator_of_its_own_gives_the_same_again_and_leaves_the_global_one_alone():
    before, state = drawings(4), torch.get_rng_state()
    augment = StrokeAugment()
    first = augment(*before, generator=torch.Generator().manual_seed(5))
    again = augment(*before, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip((*first[0], first[1]), (*again[0], again[1]), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_drawing_without_points_stays_without_and_finite():
    points, begins, mask = drawings(2)
    mask = mask.clone()
    mask[0] = False
    found = StrokeAugment(probability=1.0, prefix=0.5).views(points, begins & mask, mask)
    assert found[:, 0].abs().sum() == 0
    assert bool(found.isfinite().all())
    assert bool((found[:, 1].sum((1, 2, 3)) > 0).all())


def test_half_precision_around_it_shakes_no_point():
    before = drawings(4)
    augment = StrokeAugment(probability=1.0)
    torch.manual_seed(0)
    expected = augment(*before)[0].points
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(*before)[0].points, expected)


@pytest.mark.slow  # the first tensor without values makes torch ready for them for seconds
def test_nothing_asks_the_device_for_a_value(monkeypatch):
    # a tensor without values raises wherever one is asked for
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    points, begins, mask = (tensor.to("meta") for tensor in drawings(3))
    assert StrokeAugment(prefix=0.5).views(points, begins, mask, size=8).shape == (2, 3, 1, 8, 8)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"probability": 1.5}, "probability"),
        ({"drop": 1.0}, "drop"),
        ({"drop_order": -1}, "drop_order"),
        ({"drop_length": "long"}, "drop_length"),
        ({"prefix": 0.0}, "prefix"),
        ({"stroke_jitter": -0.1}, "stroke_jitter"),
        ({"point_jitter": 1}, "point_jitter"),
        ({"warp": math.inf}, "warp"),
        ({"rotation": 200}, "rotation"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"shear": 2}, "shear"),
        ({"translate": -0.1}, "translate"),
        ({"width": (1.0,)}, "width"),
        ({"pad": 0.5}, "pad"),
    ],
)
def test_arguments_outside_their_range_are_refused_by_name(how, name):
    with pytest.raises(ConfigurationError, match=f"StrokeAugment: {name}="):
        StrokeAugment(**how)
