"""Bounds per residue: against the definition, and a standard error against many samples."""

from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.proteins.metrics import ResidueBound


def found(nats, residues, parts=1):
    bound = ResidueBound()
    for x, n in zip(nats.chunk(parts), residues.chunk(parts), strict=True):
        bound.update(x, n)
    return bound.compute()


def test_it_is_the_sum_over_the_sum_in_three_units():
    nats, residues = torch.tensor([10.0, 3.0, 8.0, 1.5]), torch.tensor([4, 1, 2, 1])
    for parts in (1, 2, 4):
        values = found(nats, residues, parts)
        assert values["nll"].item() == pytest.approx(22.5 / 8)
        assert values["perplexity"].item() == pytest.approx(math.exp(22.5 / 8))
        assert values["bits_per_residue"].item() == pytest.approx(22.5 / 8 / math.log(2))


@pytest.mark.slow
def test_the_error_is_the_spread_over_many_data_sets():
    generator = torch.Generator().manual_seed(5)
    shape = (600, 60)
    residues = torch.randint(20, 200, shape, generator=generator)
    nats = residues * 2.5 + residues.sqrt() * 3.0 * torch.randn(shape, generator=generator)
    each = [found(x, n) for x, n in zip(nats, residues, strict=True)]
    spread = torch.stack([value["nll"] for value in each]).std()
    claimed = torch.stack([value["nll_se"] for value in each]).square().mean().sqrt()
    assert claimed.item() == pytest.approx(spread.item(), rel=0.08)


def test_one_sequence_has_no_error_and_none_has_no_value():
    assert found(torch.tensor([3.0]), torch.tensor([2]))["nll_se"] == math.inf
    assert ResidueBound().compute()["nll"].isnan()


def test_a_sequence_that_counts_nothing_is_none():
    with_empty = found(torch.tensor([4.0, 0.0, 9.0]), torch.tensor([2, 0, 3]))
    without = found(torch.tensor([4.0, 9.0]), torch.tensor([2, 3]))
    assert with_empty == without


def test_equal_sequences_have_no_error():
    assert found(torch.full((1000,), 2.7), torch.full((1000,), 3))["nll_se"] < 1e-6


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match=r"ResidueBound: \(2,\) nats and \(3,\) residues"):
        ResidueBound().update(torch.ones(2), torch.ones(3))
