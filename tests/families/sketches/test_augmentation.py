"""Pictures that are changed at random: what each change does, to each sample by itself, and what it spares."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stablelit.errors import ConfigurationError
from stablelit.families.sketches import augmentation as module
from stablelit.families.sketches.augmentation import SketchAugment, largest_around, smooth_field

NOTHING = {
    "rotation": 0.0,
    "scale": (1.0, 1.0),
    "shear": 0.0,
    "translate": 0.0,
    "elastic": 0.0,
    "width": 0.0,
    "erase": 0.0,
}
SIZE = 33


def only(**how) -> SketchAugment:
    return SketchAugment(**{**NOTHING, **how})


def blobs(places, width: float = 2.0) -> torch.Tensor:
    """Soft spots of ink about the middle, ``(1, 1, S, S)``; places are pixels right and down of it."""
    at = torch.arange(SIZE) - SIZE // 2
    spots = [torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * width**2)) for x, y in places]
    return torch.stack(spots).sum(0)[None, None]


def centre(image: torch.Tensor) -> torch.Tensor:
    """The centre of ink, x and y, in pixels from the middle: ``(B, 2)``."""
    at = torch.arange(SIZE) - SIZE // 2
    ink = image.sum((1, 2, 3))
    return torch.stack([(image * at).sum((1, 2, 3)) / ink, (image * at[:, None]).sum((1, 2, 3)) / ink], dim=1)


def spread(image: torch.Tensor) -> torch.Tensor:
    """Second moments about the centre of ink, ``(B, 2, 2)``."""
    at = (torch.arange(SIZE) - SIZE // 2).float()
    x, y = (centre(image)[:, i, None, None] for i in (0, 1))
    dx, dy = at - x, at[:, None] - y
    ink = image[:, 0] / image.sum((1, 2, 3))[:, None, None]
    return torch.stack([(ink * a * b).sum((1, 2)) for a in (dx, dy) for b in (dx, dy)], 1).view(-1, 2, 2)


def test_at_strength_0_a_picture_stays_to_the_bit():
    image = torch.rand(5, 2, 12, 12)
    assert torch.equal(only()(image), image)
    never = SketchAugment(affine_probability=0, elastic_probability=0, width_probability=0, erase_probability=0)
    assert torch.equal(never(image), image)


def test_a_shift_is_as_long_as_is_said_and_every_sample_has_its_own():
    torch.manual_seed(0)
    moved = centre(only(translate=0.1)(blobs([(0, 0)]).expand(400, -1, -1, -1)))
    assert moved.abs().max() <= 0.1 * SIZE + 0.01
    # uniform in [-a, a] has the standard deviation a / sqrt 3
    torch.testing.assert_close(moved.std(0), torch.full((2,), 0.1 * SIZE / math.sqrt(3)), atol=0.12, rtol=0)
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.15


def test_a_turn_moves_a_spot_along_its_circle_by_no_more_than_is_said():
    torch.manual_seed(0)
    moved = centre(only(rotation=30.0)(blobs([(9, 0)]).expand(400, -1, -1, -1)))
    torch.testing.assert_close(moved.norm(dim=1), torch.full((400,), 9.0), atol=0.02, rtol=0)
    angle = torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0]))
    assert angle.abs().max() <= 30.1
    assert float(angle.std()) == pytest.approx(30 / math.sqrt(3), abs=1.2)


def test_a_scale_grows_distances_by_a_factor_in_its_range():
    torch.manual_seed(0)
    factor = centre(only(scale=(0.5, 1.5))(blobs([(7, 0)]).expand(400, -1, -1, -1)))[:, 0] / 7
    assert 0.49 < factor.min() < 0.53
    assert 1.47 < factor.max() < 1.51
    assert float(factor.mean()) == pytest.approx(1.0, abs=0.05)


def test_a_shear_moves_rows_and_leaves_the_middle_row():
    torch.manual_seed(0)
    image = blobs([(0, 9)]).expand(300, -1, -1, -1)
    moved = centre(only(shear=0.3)(image))
    torch.testing.assert_close(moved[:, 1], torch.full((300,), 9.0), atol=0.02, rtol=0)
    assert 2.4 < moved[:, 0].abs().max() <= 2.71
    torch.testing.assert_close(centre(only(shear=0.3)(blobs([(9, 0)])))[0], torch.tensor([9.0, 0.0]), atol=0.02, rtol=0)


def test_all_of_it_together_is_one_affine_map_of_each_sample():
    torch.manual_seed(0)
    augment = SketchAugment(elastic=0.0, width=0.0, erase=0.0, rotation=20.0, crop=0.8, flip_probability=0.5)
    places = [(0, 0), (6, 0), (0, 6), (5, 5)]
    seen = []
    for place in places:
        torch.manual_seed(1)
        seen.append(centre(augment(blobs([place], width=1.5).expand(30, -1, -1, -1))))
    origin, right, down, both = seen
    torch.testing.assert_close(both - origin, (5 / 6) * (right + down - 2 * origin), atol=0.06, rtol=0)
    assert (right - origin).std(0).min() > 0.3


def test_a_mirror_is_a_mirror_for_the_share_that_is_said():
    torch.manual_seed(0)
    image = torch.rand(1, 1, SIZE, SIZE).expand(400, -1, -1, -1)
    found = only(flip_probability=0.25)(image)
    mirrored = (found - image.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    same = (found - image).abs().amax((1, 2, 3)) < 1e-4
    assert bool((mirrored ^ same).all())
    assert float(mirrored.float().mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))


def test_a_crop_enlarges_what_it_leaves_and_never_shows_what_lies_outside():
    torch.manual_seed(0)
    found = only(crop=0.5)(torch.ones(200, 1, SIZE, SIZE))
    # nothing but ink lies inside, so nothing but ink is seen, but for the last half pixel of an edge
    assert found[..., 1:-1, 1:-1].min() > 0.999
    wide = spread(only(crop=0.5)(blobs([(0, 0)]).expand(200, -1, -1, -1)))[:, 0, 0] / spread(blobs([(0, 0)]))[0, 0, 0]
    # an area of 1/2 is a length of 1 / sqrt 2, so variances grow by 1 to 2, and a corner may cut some of it
    assert wide.min() > 0.99
    assert 1.8 < wide.max() < 2.1


def test_half_grow_and_half_shrink_and_each_within_the_largest_and_smallest_around():
    torch.manual_seed(0)
    image = (torch.rand(1, 1, 16, 16) > 0.6).float().expand(500, -1, -1, -1)
    found = only(width=0.8, width_probability=0.5)(image)
    largest, smallest = F.max_pool2d(image, 3, 1, 1), -F.max_pool2d(-image, 3, 1, 1)
    assert (found <= largest + 1e-6).all()
    assert (found >= smallest - 1e-6).all()
    change = (found - image).sum((1, 2, 3))
    grown, shrunk = (change > 0), (change < 0)
    for share in (grown.float().mean(), shrunk.float().mean()):
        assert float(share) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 500))
    # each pixel goes the same share of its way
    way = torch.where(grown.view(-1, 1, 1, 1), largest, smallest) - image
    share = ((found - image) / way)[way != 0].view(-1)
    assert 0.75 < float(share.max()) <= 0.8001


def test_an_erased_rectangle_is_blank_paper_of_the_size_that_is_said():
    torch.manual_seed(0)
    found = only(erase=0.4, erase_probability=0.5)(torch.ones(400, 1, 50, 50))
    gone = found[:, 0] == 0
    assert bool(((found == 0) | (found == 1)).all())
    some = gone.flatten(1).any(1)
    assert float(some.float().mean()) == pytest.approx(0.5, abs=0.1)
    rows, columns = gone.any(2), gone.any(1)
    assert torch.equal(gone, rows[:, :, None] & columns[:, None, :])
    # sides between 0.2 and 0.4 of 50 pixels, and a pixel either way by where it begins
    assert rows.sum(1).max() <= 21
    inside = some & ~(rows[:, 0] | rows[:, -1])
    assert rows[inside].sum(1).min() >= 9


def test_a_smooth_field_is_that_of_bicubic_interpolation():
    coarse = torch.randn(7, 2, 4, 4)
    expected = F.interpolate(coarse, (16, 16), mode="bicubic", align_corners=True)
    torch.testing.assert_close(smooth_field(coarse, 16), expected, atol=1e-5, rtol=0)


def test_a_warp_moves_the_middle_as_far_as_is_said():
    torch.manual_seed(0)
    moved = centre(only(elastic=0.03, elastic_probability=1.0)(blobs([(0, 0)], 1.5).expand(400, -1, -1, -1)))
    # the middle lies between grid points, where the field deviates less than at them
    middle = float(smooth_field(torch.randn(4000, 4, 4), SIZE)[:, SIZE // 2, SIZE // 2].std())
    torch.testing.assert_close(moved.std(0), torch.full((2,), 0.03 * SIZE * middle), atol=0.08, rtol=0)


def test_the_largest_around_is_that_of_pooling():
    image = torch.randn(3, 2, 7, 5)
    assert torch.equal(largest_around(image), F.max_pool2d(image, 3, stride=1, padding=1))


@pytest.mark.parametrize("paper", [1.0, 255.0])
def test_dark_ink_on_white_paper_is_the_negative_of_ink_on_nothing(paper):
    ink = torch.rand(6, 1, 20, 20)
    # a line that grows is one that shrinks in the negative, so that one is compared by itself
    how = {"width": 0.0, "erase_probability": 1.0}
    torch.manual_seed(0)
    expected = paper * (1 - SketchAugment(**how)(ink))
    torch.manual_seed(0)
    found = SketchAugment(**how, paper=paper)(paper * (1 - ink))
    torch.testing.assert_close(found, expected, atol=1e-4 * paper, rtol=0)


def test_raw_bytes_become_floats_of_the_same_range():
    raw = torch.randint(256, (4, 1, 16, 16), dtype=torch.uint8)
    found = SketchAugment(paper=255.0)(raw)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert 200 < found.max() <= 255.001


def test_a_seed_gives_the_same_views_and_two_views_differ():
    image = torch.rand(5, 1, 16, 16)
    augment = SketchAugment()
    torch.manual_seed(7)
    first = augment.views(image)
    torch.manual_seed(7)
    assert torch.equal(augment.views(image), first)
    assert first.shape == (2, 5, 1, 16, 16)
    assert ((first[0] - first[1]).abs().amax((1, 2, 3)) > 0.01).all()


def test_both_views_of_a_sample_are_of_that_sample():
    image = torch.arange(1.0, 6.0).view(5, 1, 1, 1).expand(5, 1, 9, 9)
    found = only(translate=0.1).views(image)
    assert torch.equal(found[:, :, 0, 4, 4].round(), torch.arange(1.0, 6.0).expand(2, 5))


def test_blocks_of_samples_are_whole_and_in_order(monkeypatch):
    image = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 1, 8, 8) + 1
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 3 * 64)
    found = only(width=0.5, width_probability=1.0)(image)
    torch.testing.assert_close(found, image)


def test_half_precision_around_it_changes_no_number_and_keeps_the_type():
    image = torch.rand(4, 1, 16, 16)
    augment = SketchAugment(elastic_probability=1.0)
    torch.manual_seed(0)
    expected = augment(image)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(image), expected)
    assert augment(image.bfloat16()).dtype == torch.bfloat16


@pytest.mark.slow  # the first tensor without values makes torch ready for them for seconds
def test_nothing_asks_the_device_for_a_value(monkeypatch):
    # a tensor without values raises wherever one is asked for
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    augment = SketchAugment(crop=0.7, flip_probability=0.5, paper=1.0)
    assert augment.views(torch.empty(4, 1, 16, 16, device="meta")).shape == (2, 4, 1, 16, 16)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"rotation": -1}, "rotation"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": 1.0}, "scale"),
        ({"shear": "x"}, "shear"),
        ({"translate": 0.6}, "translate"),
        ({"elastic": -0.1}, "elastic"),
        ({"elastic_points": 1}, "elastic_points"),
        ({"width": 1.5}, "width"),
        ({"erase": 2}, "erase"),
        ({"crop": 0.08}, "crop"),
        ({"flip_probability": 1.1}, "flip_probability"),
        ({"paper": math.nan}, "paper"),
        ({"erase_probability": -0.1}, "erase_probability"),
    ],
)
def test_arguments_outside_their_range_are_refused_by_name(how, name):
    with pytest.raises(ConfigurationError, match=f"SketchAugment: {name}="):
        SketchAugment(**how)


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ConfigurationError, match=r"\(B, C, S, S\)"):
        SketchAugment()(torch.from_numpy(np.zeros((4, 16, 16), dtype=np.float32)))
