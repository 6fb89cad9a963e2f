"""How fast sketches are drawn and changed: by the batch, beside one picture after another with PIL.

Functions that give rows, for `benchmarks.sketches`, and a command of its own. Times are CPU times on one thread, in
turn with the peer's in one process; drawings are toy ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from benchmarks.rows import Row, run
from benchmarks.timing import in_turn
from stablelit.families.sketches.augmentation import SketchAugment
from stablelit.families.sketches.generator import generate_strokes
from stablelit.families.sketches.rasterise import fitted, rasterise, rasterise_all
from stablelit.families.sketches.stroke_augmentation import StrokeAugment
from stablelit.families.sketches.stroke_batch import padded

BATCH, REPEATS = 256, 15
# the peer draws this much larger and takes the mean of boxes
FINER = 4


def changed_by_pil(picture: Image.Image, how: SketchAugment, draw: random.Random) -> Tensor:
    """One look at one picture, as a data set that goes picture by picture has it: what `how` does, but the warp."""
    size = picture.size[0]
    if draw.random() < how.affine_probability:
        angle = math.radians(draw.uniform(-how.rotation, how.rotation))
        shrink, shear = 1 / draw.uniform(*how.scale), draw.uniform(-how.shear, how.shear)
        x, y = (draw.uniform(-how.translate, how.translate) * size - size / 2 for _ in "xy")
        cosine, sine = shrink * math.cos(angle), shrink * math.sin(angle)
        a, b, d, e = cosine - shear * sine, sine + shear * cosine, -sine, cosine
        matrix = (a, b, a * x + b * y + size / 2, d, e, d * x + e * y + size / 2)
        picture = picture.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if draw.random() < how.width_probability:
        share = how.width * draw.uniform(-1, 1)
        around = ImageFilter.MaxFilter(3) if share > 0 else ImageFilter.MinFilter(3)
        picture = Image.blend(picture, picture.filter(around), abs(share))
    if draw.random() < how.erase_probability:
        w, h = (how.erase * draw.uniform(0.25, 0.5) * size for _ in "wh")
        x, y = (draw.uniform(0, size) for _ in "xy")
        picture = picture.copy()
        ImageDraw.Draw(picture).rectangle((x - w, y - h, x + w, y + h), fill=0)
    return torch.from_numpy(np.array(picture)).unsqueeze(0).float().div(255)


def views_by_pil(images: NDArray[np.uint8], how: SketchAugment, draw: random.Random) -> Tensor:
    """Two looks at each of a batch."""
    pictures = [Image.fromarray(image) for image in images]
    return torch.stack([torch.stack([changed_by_pil(p, how, draw) for p in pictures]) for _ in range(2)])


def views_by_batch(images: NDArray[np.uint8], how: SketchAugment) -> Tensor:
    return how.views(torch.from_numpy(images).unsqueeze(1).float().div(255))


def augment_rows() -> Iterator[Row]:
    """Two views of a batch from its bytes."""
    strokes, _ = generate_strokes(BATCH // 16, 16)
    draw = random.Random(0)
    how, warped = SketchAugment(elastic=0.0), SketchAugment()
    for size, floor in ((32, 5), (64, 2)):
        images = rasterise_all(strokes, size)
        by_pil, by_batch = partial(views_by_pil, images, how, draw), partial(views_by_batch, images, how)
        # where one leaves more ink than the other, the comparison says nothing
        ink = float(by_batch().mean() / by_pil().mean())
        yield Row(f"two views, {size} px: relative difference of their ink", abs(ink - 1), "", 0.1)
        slow, fast, ratio = in_turn(by_pil, by_batch, REPEATS)
        title = f"two views of {BATCH}, {size} px: a picture at a time over by batch"
        yield Row(title, ratio, "x", floor, "higher", "", None, REPEATS)
        beside = ("by PIL, ms a sketch", 1e3 * slow / BATCH)
        yield Row("    ms a sketch", 1e3 * fast / BATCH, "ms", None, "lower", *beside, REPEATS)
        _, fast, _ = in_turn(by_batch, partial(views_by_batch, images, warped), REPEATS)
        yield Row("    with the smooth warp, the default", 1e3 * fast / BATCH, "ms", None, "lower", repeats=REPEATS)


def drawn_by_pil(corners: list[list[NDArray[np.float32]]], size: int, line_width: float) -> NDArray[np.uint8]:
    """Pictures of strokes in the unit square, one after another."""
    pictures = []
    for strokes in corners:
        picture = Image.new("L", (size * FINER, size * FINER))
        draw = ImageDraw.Draw(picture)
        for stroke in strokes:
            at = [tuple(point) for point in (stroke * size * FINER).tolist()]
            draw.line(at, fill=255, width=round(line_width * FINER), joint="curve")
        pictures.append(np.asarray(picture.reduce(FINER)))
    return np.stack(pictures)


def drawing_rows(size: int = 32, line_width: float = 1.5) -> Iterator[Row]:
    """Strokes to pictures, and strokes to two views."""
    strokes, _ = generate_strokes(BATCH // 16, 16)
    batch = padded(strokes, np.arange(BATCH))
    places = fitted(batch.points, batch.mask).numpy()
    corners = []
    for i in range(BATCH):
        there = batch.mask[i].numpy()
        corners.append(np.split(places[i][there], np.flatnonzero(batch.begins[i].numpy()[there])[1:]))
    ours = rasterise(*batch, size=size, line_width=line_width)[:, 0].numpy()
    alike = float(np.corrcoef(ours.ravel(), drawn_by_pil(corners, size, line_width).ravel())[0, 1])
    yield Row(f"pictures of strokes, {size} px: correlation with PIL's", alike, "", 0.95, "higher")
    slow, fast, ratio = in_turn(
        lambda: drawn_by_pil(corners, size, line_width),
        lambda: rasterise(*batch, size=size, line_width=line_width),
        REPEATS,
    )
    yield Row("    PIL, four times finer and reduced, over ours", ratio, "x", 5, "higher", "", None, REPEATS)
    beside = ("by PIL, ms a sketch", 1e3 * slow / BATCH)
    yield Row("    ms a sketch", 1e3 * fast / BATCH, "ms", None, "lower", *beside, REPEATS)
    augment = StrokeAugment()
    _, fast, _ = in_turn(lambda: augment(*batch), lambda: augment.views(*batch, size=size), REPEATS)
    yield Row("    two views of changed strokes", 1e3 * fast / BATCH, "ms", None, "lower", "", None, REPEATS)


def rows() -> Iterator[Row]:
    """All of them."""
    torch.manual_seed(0)
    yield from drawing_rows()
    yield from augment_rows()


if __name__ == "__main__":
    raise SystemExit(run("sketches_augment", rows()))
