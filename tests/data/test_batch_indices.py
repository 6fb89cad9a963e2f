from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler, batch_indices, leave_out

N = 23
DATA = TensorDataset(torch.arange(N))
LENGTHS = [1 + i * i % 7 for i in range(N)]


def loaders(world, rank):
    common = {"num_replicas": world, "rank": rank}
    for drop_last in (False, True):
        sampler = ShuffleSampler(DATA, seed=3, epoch=2, drop_last=drop_last, **common)
        yield ShuffleDataLoader(DATA, sampler=sampler, batch_size=4)
        yield DataLoader(DATA, sampler=sampler, batch_size=4, drop_last=True)
        for kind in ({"batch_size": 3}, {"max_tokens": 20}):
            batches = LengthBucketBatchSampler(sampler, LENGTHS, pool_batches=2, **kind)
            yield ShuffleDataLoader(DATA, batch_sampler=batches)
    distributed = DistributedSampler(DATA, seed=1, shuffle=True, **common)
    distributed.set_epoch(4)
    yield DataLoader(DATA, sampler=distributed, batch_size=4)
    if world == 1:
        yield DataLoader(DATA, batch_size=4)


@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1), (4, 3)])
def test_the_numbers_are_those_that_iterating_gives(world, rank):
    for loader in loaders(world, rank):
        expected = [batch[0].tolist() for batch in loader]
        assert [batch_indices(loader, k) for k in range(len(expected))] == expected


def test_behind_leave_out_they_are_those_of_the_whole_data():
    kept = leave_out(DATA, [0, 5, 6, 22])
    loader = ShuffleDataLoader(kept, sampler=ShuffleSampler(kept, seed=1), batch_size=4)
    expected = [batch[0].tolist() for batch in loader]  # the samples are their own numbers
    assert [batch_indices(loader, k) for k in range(len(expected))] == expected


def test_an_order_that_is_drawn_is_not_guessed():
    assert batch_indices(DataLoader(DATA, batch_size=4, shuffle=True), 0) is None
    assert batch_indices([1, 2], 0) is None
    assert batch_indices(DataLoader(DATA, batch_size=None), 0) is None
