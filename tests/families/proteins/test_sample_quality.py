from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.proteins.alphabet import PAD
from stablelit.families.proteins.sample_quality import sample_quality


def test_numbers_are_those_of_a_small_example():
    tokens = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, PAD, PAD]])
    unigram = torch.full((20,), 1 / 20, dtype=torch.float64)
    found = sample_quality(tokens, torch.tensor([4, 4, 2]), unigram, {2: 1, 4: 1})
    assert found["unique_share"] == pytest.approx(2 / 3)
    assert found["residue_entropy"] == pytest.approx((2 * math.log(2) + 0) / 3)
    share = [0.4, 0.4, 0.2]
    entropy = -sum(p * math.log(p) for p in share)
    assert found["residue_entropy_of_all"] == pytest.approx(entropy)
    assert found["unigram_kl"] == pytest.approx(math.log(20) - entropy)
    # 1/3 against 1/2 have two residues
    assert found["length_ks"] == pytest.approx(1 / 6)


def test_samples_of_the_law_of_training_are_near_it():
    generator = torch.Generator().manual_seed(0)
    unigram = torch.rand(20, generator=generator, dtype=torch.float64)
    unigram /= unigram.sum()
    tokens = torch.multinomial(unigram, 500 * 40, replacement=True, generator=generator).view(500, 40)
    found = sample_quality(tokens, torch.full((500,), 40), unigram, {40: 3})
    assert 0 <= found["unigram_kl"] < 2e-3
    assert found["length_ks"] == 0
    assert found["unique_share"] == 1


def test_what_training_is_not_known_is_left_out():
    assert set(sample_quality(torch.tensor([[0, 1]]), torch.tensor([2]))) == {
        "unique_share",
        "residue_entropy",
        "residue_entropy_of_all",
    }
