from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.families.proteins.metrics import ResidueCounts


def test_only_residues_that_count_are_counted():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 22, (50, 30), generator=generator)
    loss_mask = (tokens < 20) & (torch.rand(50, 30, generator=generator) < 0.8)
    counts = ResidueCounts()
    for i in range(0, 50, 7):
        counts.update(tokens[i : i + 7], loss_mask[i : i + 7])
    assert counts.compute().tolist() == np.bincount(tokens[loss_mask].numpy(), minlength=20).tolist()


def test_cross_entropy_with_their_own_frequencies_is_their_entropy_and_with_others_more():
    counts = ResidueCounts()
    counts.update(torch.tensor([[0, 0, 0, 1]]), torch.ones(1, 4, dtype=torch.bool))
    own = counts.compute().double() / 4
    assert counts.cross_entropy(own).item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert counts.cross_entropy(torch.full((20,), 0.05)).item() == pytest.approx(math.log(20), rel=1e-6)
    assert counts.cross_entropy(own.roll(1)).isinf()
