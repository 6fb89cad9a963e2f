from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.sketches import PrototypicalNetwork, SketchCNN
from stablelit.families.sketches.probe import probe_encoder


def drawn(folder, classes=("bar", "box", "dot"), per_class=12):
    rng = np.random.default_rng(0)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.full((24, 24), 255, dtype=np.uint8)
            x, y = rng.integers(2, 8, 2)
            pixels[y : y + 4 + 4 * k, x : x + 14 - 4 * k] = 0
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder)


@pytest.mark.slow
def test_classes_that_features_tell_apart_are_told_apart_beside_pixels_and_chance(tmp_path):
    class Extent(nn.Module):
        """Height and width of what is drawn."""

        def forward(self, image):
            ink = image[:, 0] > 0.5
            return torch.stack([ink.any(2).sum(1), ink.any(1).sum(1)], dim=1).float()

    scores = probe_encoder(Extent(), 16, drawn(tmp_path / "a"))
    assert scores["linear_top1"] == scores["linear_top1_baseline"] == 1.0
    assert 1 / 3 < scores["linear_top1_pixels"] < 1.0
    assert scores["linear_top1_chance"] == pytest.approx(1 / 3)
    assert (scores["sketches"], scores["classes"], scores["judged by"]) == (36, 3, 18)
    assert scores["linear_top1_interval"] == 0.0


@pytest.mark.slow
def test_an_encoder_that_sees_nothing_is_at_chance(tmp_path):
    class Blind(nn.Module):
        def forward(self, image):
            return torch.zeros(len(image), 3)

    scores = probe_encoder(Blind(), 16, drawn(tmp_path / "a"))
    assert scores["linear_top1"] == pytest.approx(1 / 3, abs=1e-6)
    p = scores["linear_top1"]
    assert scores["linear_top1_interval"] == pytest.approx(1.96 * (p * (1 - p) / 18) ** 0.5)


@pytest.mark.slow
def test_the_encoder_is_left_as_it_was(tmp_path):
    encoder = SketchCNN(width=4, n_blocks=2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    probe_encoder(encoder, 16, drawn(tmp_path / "a"), repeats=1)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_one_class_cannot_be_probed(tmp_path):
    with pytest.raises(DataError, match="at least two classes"):
        probe_encoder(nn.Flatten(), 16, drawn(tmp_path / "a", classes=("bar",)))


@pytest.mark.parametrize("arguments", [{"train": 1.0}, {"repeats": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(arguments, tmp_path):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        probe_encoder(nn.Flatten(), 16, drawn(tmp_path / "a"), **arguments)


@pytest.mark.slow
def test_an_encoder_of_few_shot_training_is_probed_as_any_other(tmp_path):
    folder = drawn(tmp_path / "a")
    module = PrototypicalNetwork({"width": 8, "n_blocks": 2}, image_size=16).eval()
    assert module.probe(folder, repeats=1) == probe_encoder(module.encoder, 16, folder, repeats=1)
