from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from stablelit.errors import ConfigurationError
from stablelit.nn import SelfAttention, TransformerBlock


def test_a_block_adds_attention_and_then_its_perceptron():
    torch.manual_seed(0)
    block = TransformerBlock(SelfAttention(8, heads=2), feedforward=2.5)
    first, last = block.feedforward[0], block.feedforward[2]
    assert first.out_features == 20
    x = torch.randn(3, 5, 8)
    y = x + block.attention(functional.layer_norm(x, (8,)))
    expected = y + last(functional.gelu(first(functional.layer_norm(y, (8,)))))
    torch.testing.assert_close(block(x), expected)


def test_a_block_whose_branches_end_in_zeros_is_the_identity():
    block = TransformerBlock(SelfAttention(8, heads=2), dropout=0.3)
    for layer in (block.attention.out, block.feedforward[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(3, 5, 8)
    assert torch.equal(block(x), x)


def test_a_few_places_get_what_all_would_under_a_mask():
    torch.manual_seed(0)
    block = TransformerBlock(SelfAttention(8, heads=2))
    x, mask = torch.randn(3, 5, 8), torch.rand(3, 1, 1, 5) > 0.4
    mask[..., 0] = True
    torch.testing.assert_close(block(x, mask, n_queries=1), block(x, mask)[:, :1])


@pytest.mark.parametrize("bad", [{"feedforward": 0}, {"feedforward": "4"}, {"dropout": 1.0}])
def test_arguments_out_of_range_are_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match=f"TransformerBlock: {next(iter(bad))}="):
        TransformerBlock(SelfAttention(8, heads=2), **bad)
