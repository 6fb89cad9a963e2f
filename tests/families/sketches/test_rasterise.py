"""Pictures of strokes: each pixel by the distance to each segment, one after another, and by PIL's lines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stablelit.errors import ConfigurationError
from stablelit.families.sketches import rasterise as module
from stablelit.families.sketches.rasterise import fitted, rasterise, rasterise_all
from stablelit.families.sketches.stroke_batch import padded
from stablelit.families.sketches.strokes import Strokes


def some_strokes(n: int = 6, seed: int = 0) -> Strokes:
    """Drawings of one to four strokes, some of them dots, some of long lines."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(n):
        lengths = rng.integers(1, 9, size=rng.integers(1, 5))
        drawings.append([rng.normal(size=2) + np.cumsum(rng.normal(size=(k, 2)), 0) for k in lengths])
    return Strokes.of(drawings)


def every(strokes: Strokes):
    return padded(strokes, np.arange(len(strokes)))


def pixel_by_pixel(strokes: list[np.ndarray], size: int, line_width: float, pad: float) -> np.ndarray:
    """The picture of one drawing, by loops."""
    points = np.concatenate(strokes).astype(float)
    low, high = points.min(0), points.max(0)
    extent = (high - low).max()
    scale = (1 - 2 * pad) * size / extent if extent > 0 else 0.0
    picture = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            pixel = np.array([column + 0.5, row + 0.5])
            nearest = math.inf
            for stroke in strokes:
                corners = [(p - (low + high) / 2) * scale + size / 2 for p in stroke]
                for a, b in zip(corners, corners[1:] or corners, strict=False):
                    length2 = (b - a) @ (b - a)
                    share = min(1.0, max(0.0, (pixel - a) @ (b - a) / length2)) if length2 > 0 else 0.0
                    nearest = min(nearest, float(np.linalg.norm(pixel - a - share * (b - a))))
            picture[row, column] = min(1.0, max(0.0, line_width / 2 + 0.5 - nearest))
    return picture


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "line_width", "pad"), [(16, 1.5, 0.08), (9, 4.0, 0.0), (5, 12.0, 0.2), (14, 0.3, 0.1)]
)
def test_ink_falls_with_the_distance_to_the_nearest_segment(size, line_width, pad):
    strokes = some_strokes()
    found = rasterise(*every(strokes), size=size, line_width=line_width, pad=pad)
    expected = np.stack([pixel_by_pixel(drawing, size, line_width, pad) for drawing in strokes])
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("order_channels", [0, 3])
def test_a_device_that_asks_every_pixel_draws_the_same(monkeypatch, order_channels):
    strokes = every(some_strokes(40))
    # widths of their own, and segments that come in several blocks
    how = {"size": 20, "line_width": torch.linspace(0.5, 3.0, 40), "order_channels": order_channels}
    monkeypatch.setattr(module, "PATCH_ELEMENTS", 5000)
    in_patches = rasterise(*strokes, **how)
    monkeypatch.setattr(module, "DENSE_ELEMENTS", 40 * 20 * 20 * 3)
    monkeypatch.setattr(module, "_drawn_in_patches", module._drawn_densely)
    torch.testing.assert_close(in_patches, rasterise(*strokes, **how), atol=1e-5, rtol=0)


def test_pictures_look_like_those_of_pil():
    strokes, size, finer, width = some_strokes(30), 32, 8, 1.5
    ours = rasterise(*every(strokes), size=size, line_width=width)[:, 0].numpy()
    points, begins, mask = every(strokes)
    places = fitted(points, mask).numpy() * size * finer
    theirs = np.zeros_like(ours)
    for i in range(len(strokes)):
        picture = Image.new("L", (size * finer, size * finer))
        draw = ImageDraw.Draw(picture)
        for stroke in np.split(places[i, : int(mask[i].sum())], np.flatnonzero(begins[i].numpy())[1:]):
            draw.line([tuple(p) for p in stroke.tolist()], fill=255, width=int(width * finer), joint="curve")
            for x, y in stroke[[0, -1]].tolist():
                r = width * finer / 2
                draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        theirs[i] = np.asarray(picture.reduce(finer), dtype=float) / 255
    # the boxes of a reduction cut a slanted edge a little otherwise than the distance does
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert np.abs(ours - theirs).mean() < 0.01


def test_where_and_how_large_a_drawing_was_is_forgotten():
    points, begins, mask = every(some_strokes())
    moved = points * torch.tensor([0.25, 256.0, 1.0, 2.0, 5.0, 7.0]).view(-1, 1, 1) + torch.tensor([3.0, -8.0])
    torch.testing.assert_close(rasterise(moved, begins, mask), rasterise(points, begins, mask), atol=2e-4, rtol=0)


def test_a_drawing_turned_by_a_quarter_is_a_picture_turned_by_a_quarter():
    points, begins, mask = every(some_strokes())
    turned = torch.stack([-points[..., 1], points[..., 0]], dim=-1)
    # y is down, so (x, y) -> (-y, x) turns as the clock does
    expected = rasterise(points, begins, mask).rot90(-1, (2, 3))
    torch.testing.assert_close(rasterise(turned, begins, mask), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [9, 10])
def test_a_single_point_is_a_disc_in_the_centre(size):
    strokes = Strokes.of([[np.array([[7.0, -2.0]])]])
    (picture,) = rasterise(*every(strokes), size=size, line_width=5.0)[:, 0]
    centres = torch.arange(size) + 0.5 - size / 2
    distance = (centres[:, None] ** 2 + centres**2).sqrt()
    torch.testing.assert_close(picture, (3.0 - distance).clamp(0, 1))


def test_a_level_line_fills_its_rows_and_no_other():
    strokes = Strokes.of([[np.array([[0.0, 4.0], [9.0, 4.0], [3.0, 4.0]])]])
    (picture,) = rasterise(*every(strokes), size=10, line_width=2.0, pad=0.2)[:, 0]
    assert (picture[4:6, 2:8] == 1.0).all()
    assert picture[:3].sum() == picture[7:].sum() == 0.0


def test_a_drawing_without_points_is_blank_and_leaves_its_neighbours_alone():
    points, begins, mask = every(some_strokes(2))
    mask[0] = False
    pictures = rasterise(points, begins, mask)
    assert pictures[0].abs().sum() == 0.0
    torch.testing.assert_close(pictures[1], rasterise(points[1:], begins[1:], mask[1:])[0])


def test_no_line_comes_from_a_point_that_is_not_there():
    points = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 1.0], [1.0, 1.0]]])
    begins, mask = torch.zeros(1, 5, dtype=torch.bool), torch.tensor([[True, True, False, True, True]])
    two_lines = Strokes.of([[np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])]])
    torch.testing.assert_close(rasterise(points, begins, mask), rasterise(*every(two_lines)))


def test_what_is_not_fitted_lies_where_it_is_and_is_cut_at_the_edge():
    points = torch.tensor([[[0.25, -5.0], [0.25, 5.0]]])
    begins, mask = torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool)
    (picture,) = rasterise(points, begins, mask, size=8, line_width=2.0, fit=False)[:, 0]
    assert (picture[:, 1:3] == 1.0).all()
    assert picture[:, 4:].sum() == 0.0


def test_channels_show_the_drawing_grow_to_the_whole():
    points, begins, mask = every(some_strokes())
    channels = rasterise(points, begins, mask, order_channels=3)
    assert channels.shape == (6, 3, 32, 32)
    torch.testing.assert_close(channels[:, 2:], rasterise(points, begins, mask))
    places = fitted(points, mask)
    for i in range(6):
        n = int(mask[i].sum())
        for c in range(3):
            # of n points, numbers 0, 1, ... are in part floor(3 number / n)
            first = mask[i : i + 1] & (3 * torch.arange(mask.shape[1]) // n <= c)
            alone = rasterise(places[i : i + 1], begins[i : i + 1], first, fit=False)
            torch.testing.assert_close(channels[i, c], alone[0, 0], atol=1e-5, rtol=0)


def test_blocks_of_all_drawings_are_the_pictures_in_their_own_order(monkeypatch):
    monkeypatch.setattr(module, "PICTURES_AT_ONCE", 7)
    strokes = some_strokes(30)
    expected = (rasterise(*every(strokes), size=16) * 255).round()[:, 0].to(torch.uint8).numpy()
    found = rasterise_all(strokes, size=16)
    assert found.dtype == np.uint8
    # a rounding may fall to the other side where a drawing is beside others
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert rasterise_all(strokes.take(np.array([], dtype=np.int64)), size=16).shape == (0, 16, 16)


def test_padding_keeps_every_point_of_the_drawings_that_are_asked_for():
    strokes = some_strokes()
    points, begins, mask = padded(strokes, np.array([4, 1, 4]))
    assert points.shape[1] == max(sum(map(len, strokes.drawing(i))) for i in (4, 1))
    for row, i in enumerate((4, 1, 4)):
        np.testing.assert_array_equal(points[row][mask[row]].numpy(), np.concatenate(strokes.drawing(i)))
        assert int(begins[row].sum()) == len(strokes.drawing(i))
    assert not begins[~mask].any()
    assert points[~mask].abs().sum() == 0.0


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"size": 0}, "size"),
        ({"line_width": 0.0}, "line_width"),
        ({"pad": 0.5}, "pad"),
        ({"order_channels": -1}, "order"),
    ],
)
def test_arguments_outside_their_range_are_refused_by_name(how, name):
    with pytest.raises(ConfigurationError, match=f"rasterise: {name}"):
        rasterise(*every(some_strokes()), **how)


def test_shapes_that_do_not_belong_together_are_refused():
    points, begins, mask = every(some_strokes())
    with pytest.raises(ConfigurationError, match="points, begins, mask"):
        rasterise(points, begins[:, 1:], mask)
    with pytest.raises(ConfigurationError, match="line_width"):
        rasterise(points, begins, mask, line_width=torch.ones(2))
