"""Dropout by bits of integers: the law, the seed, and what it must leave alone."""

from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.proteins.conditioned_blocks import ConditionedBlock, drawn_to_drop
from stablelit.nn import SelfAttention


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_each_place_is_dropped_by_itself_with_that_probability(share):
    torch.manual_seed(0)
    dropped = drawn_to_drop((400, 251), share)
    n = dropped.numel()
    assert abs(dropped.float().mean().item() - share) < 4 * math.sqrt(share * (1 - share) / n)
    # neighbours are 16 bits of one number
    for distance in (1, 2, 3, 4):
        both = (dropped.flatten()[distance:] & dropped.flatten()[:-distance]).float().mean().item()
        assert both == pytest.approx(share * share, abs=0.008)
    torch.manual_seed(0)
    assert drawn_to_drop((400, 251), share).equal(dropped)
    assert not drawn_to_drop((400, 251), share).equal(dropped)


def test_what_is_kept_is_scaled_up_and_nothing_is_dropped_in_evaluation():
    torch.manual_seed(0)
    block = ConditionedBlock(SelfAttention(8, 2), 4, dropout=0.4)
    x, gate, y = torch.randn(3, 50, 8), torch.rand(3, 1, 8) + 0.5, torch.ones(3, 50, 8, requires_grad=True)
    added = block._added(x, gate, y) - x
    kept = added != 0
    torch.testing.assert_close(added, torch.where(kept, gate / 0.6, 0.0).expand_as(added), rtol=1e-4, atol=1e-6)
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.06)
    added.sum().backward()
    assert (y.grad != 0).equal(kept)
    block.eval()
    torch.testing.assert_close(block._added(x, gate, y), x + gate * y)
