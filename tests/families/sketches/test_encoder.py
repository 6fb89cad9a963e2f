from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.encoder import SketchCNN, feature_width


@pytest.mark.parametrize(("out", "size", "d"), [("mean", 32, 12), ("flatten", 32, 12 * 4), ("flatten", 50, 12 * 9)])
def test_its_width_is_that_of_its_output(out, size, d):
    encoder = SketchCNN(width=12, out=out)
    assert encoder(torch.zeros(3, 1, size, size)).shape == (3, d)
    assert feature_width(encoder, size) == d
    assert encoder.feature_dim in (None, d)


@pytest.mark.parametrize(("norm", "alone"), [("batch", False), ("group", True), ("none", True)])
def test_only_batch_norm_looks_at_the_other_pictures(norm, alone):
    torch.manual_seed(0)
    encoder, image = SketchCNN(width=12, norm=norm), torch.rand(4, 1, 16, 16)
    assert torch.allclose(encoder(image)[:2], encoder(image[:2]), atol=1e-6) == alone


def test_without_a_norm_everything_lies_in_one_direction():
    cosines = {}
    for norm in ("none", "batch"):
        torch.manual_seed(0)
        z = normalize(SketchCNN(width=32, norm=norm)((torch.rand(16, 1, 32, 32) > 0.9).float())).detach()
        cosines[norm] = float((z @ z.T).min())
    assert cosines["none"] > 0.95 > cosines["batch"]


def test_trying_it_changes_nothing():
    encoder = nn.Sequential(SketchCNN(width=8), nn.Dropout(0.5))
    encoder[0].eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert feature_width(encoder, 32) == 8
    assert [module.training for module in encoder] == [False, True]
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_a_pooled_map_is_taken_too_and_a_lazy_layer_is_made():
    assert feature_width(nn.Sequential(nn.LazyConv2d(6, 3), nn.AdaptiveAvgPool2d(1)), 16) == 6


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.Conv2d(1, 6, 3), r"The encoder Conv2d gives \(2, 6, 14, 14\).*Pool its map"),
        (nn.Flatten(0), r"The encoder Flatten gives \(512,\)"),
        (nn.Conv2d(3, 6, 3), r"The encoder Conv2d does not take pictures of shape \(2, 1, 16, 16\)"),
        (SketchCNN(n_blocks=5), "The encoder SketchCNN does not take pictures"),
    ],
)
def test_an_encoder_that_gives_something_else_is_named(encoder, message):
    with pytest.raises(ConfigurationError, match=message):
        feature_width(encoder, 16)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"norm": "layer"}, "norm='layer' is not allowed. Allowed: batch, group, none"),
        ({"out": "max"}, "out='max' is not allowed"),
        ({"width": 0}, "width=0 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        SketchCNN(**kwargs)
