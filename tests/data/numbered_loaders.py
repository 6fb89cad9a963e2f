"""Loaders and batch samplers over the same 23 numbers, and a data set that has chunks."""

from __future__ import annotations

import torch
from torch.utils.data import (
    BatchSampler,
    TensorDataset,
)

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler


class Files:
    """A data set that knows its files and keeps two of them."""

    chunk_sizes = (7, 9, 4, 11, 5, 8)
    cache_size = 2

    def __len__(self):
        return 44


DATA = TensorDataset(torch.arange(23))


def loader_of(**kwargs):
    return ShuffleDataLoader(DATA, sampler=ShuffleSampler(DATA, seed=4), **{"batch_size": 4, **kwargs})


def ordered(**kwargs):
    return ShuffleSampler(DATA, seed=4, **kwargs)


LENGTHS = [1 + i * i % 11 for i in range(23)]
BATCH_SAMPLERS = {
    "torch": lambda **kwargs: BatchSampler(ordered(**kwargs), 4, drop_last=False),
    "fixed": lambda **kwargs: LengthBucketBatchSampler(ordered(**kwargs), LENGTHS, batch_size=4, pool_batches=2),
    "budget": lambda **kwargs: LengthBucketBatchSampler(ordered(**kwargs), LENGTHS, max_tokens=33, pool_batches=2),
}


def run(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [batch[0].tolist() for batch in loader]
