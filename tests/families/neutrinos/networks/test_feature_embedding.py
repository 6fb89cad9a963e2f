from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks.feature_embedding import FeatureEmbedding


def test_waves_of_position_and_time_are_beside_the_features():
    embedding = FeatureEmbedding(6, 5, frequencies=3)
    features = torch.randn(4, 6)
    columns = [features[:, i] for i in range(6)]
    for wave in (torch.sin, torch.cos):
        for c in range(4):
            columns += [wave(math.pi * 2**j * features[:, c]) for j in range(3)]
    expected = embedding.linear(torch.stack(columns, dim=1))
    torch.testing.assert_close(embedding(features), expected)


def test_without_frequencies_it_is_linear():
    embedding = FeatureEmbedding(6, 5)
    features = torch.randn(4, 6)
    assert torch.equal(embedding(features), embedding.linear(features))


@pytest.mark.parametrize("bad", [{"frequencies": 13}, {"frequencies": -1}, {"width": 0}, {"n_features": 3}])
def test_arguments_out_of_range_are_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match=f"FeatureEmbedding: {next(iter(bad))}="):
        FeatureEmbedding(**({"n_features": 6, "width": 5} | bad))
