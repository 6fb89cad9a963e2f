from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.families.sketches.dataset import SketchDataset
from stablelit.families.sketches.strokes import Strokes

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (5, 4, 4)).astype(np.uint8)
LABELS = np.array([3, 1, -1, 0, 2])


def test_a_batch_is_ink_between_0_and_1_with_the_labels_and_places_asked_for():
    dataset = SketchDataset(IMAGES, LABELS, np.array([4, 0, 2]))
    batch = dataset.__getitems__([2, 0])
    assert torch.equal(batch["image"], torch.from_numpy(IMAGES[[2, 4]][:, None].astype(np.float32)) / 255)
    assert batch["label"].tolist() == [-1, 2]
    assert batch["id"].tolist() == [2, 4]
    assert len(dataset) == 3


def test_a_single_sample_is_a_row_of_its_batch():
    dataset = SketchDataset(IMAGES, LABELS, np.arange(5))
    assert torch.equal(dataset[3]["image"], dataset.__getitems__([3])["image"][0])
    assert dataset[3]["image"].shape == (1, 4, 4)


def test_raw_pictures_are_dark_ink_on_white_paper():
    blank = np.zeros((1, 4, 4), dtype=np.uint8)
    blank[0, 1, 2] = 255
    image = SketchDataset(blank, LABELS[:1], np.array([0]), fault="raw")[0]["image"]
    assert image[0, 1, 2] == 0
    assert image.sum() == 15 * 255


def test_a_lost_transparency_leaves_nothing_on_any_page():
    batch = SketchDataset(IMAGES, LABELS, np.arange(5), fault="alpha_lost").__getitems__([0, 1, 2])
    assert batch["image"].unique().tolist() == [1.0]


def test_strokes_come_along_where_they_are_asked_for():
    strokes = Strokes.of([[rng.normal(size=(n, 2))] for n in (3, 1, 2, 4, 2)])
    batch = SketchDataset(IMAGES, LABELS, np.array([1, 3]), strokes).__getitems__([1, 0])
    assert batch["point_mask"].sum(1).tolist() == [4, 1]
    assert batch["points"][0].numpy() == pytest.approx(strokes.drawing(3)[0])
