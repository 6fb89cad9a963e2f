"""Which samples a batch holds, worked out from the order of an epoch without reading any."""

from __future__ import annotations

from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from stablelit.data.buckets import LengthBucketBatchSampler
from stablelit.data.episodes import EpisodicSampler
from stablelit.data.leave_out import LeftOut
from stablelit.data.shuffle import ShuffleSampler


def batch_indices(loader: Any, batch: int) -> list[int] | None:
    """The samples of this rank's batch number `batch` in the epoch at which the sampler stands.

    Args:
        loader: a DataLoader whose order is a pure function: of ShuffleSampler, LengthBucketBatchSampler,
            EpisodicSampler, DistributedSampler or SequentialSampler.
        batch: its number in the epoch, also behind a resume.

    Returns:
        Numbers of samples in the loader's data set (behind :func:`leave_out`, in the one behind that); None where the
        order cannot be worked out.
    """
    if not isinstance(loader, DataLoader):
        return None
    found = _positions(loader, batch)
    if found is None:
        return None
    return loader.dataset.original(found).tolist() if isinstance(loader.dataset, LeftOut) else found


def _positions(loader: Any, batch: int) -> list[int] | None:
    batches: Any = loader.batch_sampler
    if isinstance(batches, LengthBucketBatchSampler | EpisodicSampler):
        return batches.batch(batch)
    if type(batches) is not BatchSampler:
        return None
    sampler: Any = batches.sampler
    size = int(batches.batch_size)
    begin = batch * size
    if isinstance(sampler, ShuffleSampler):
        return sampler.samples(begin, begin + size)
    if isinstance(sampler, SequentialSampler):
        return list(range(begin, min(begin + size, len(sampler))))
    if type(sampler) is DistributedSampler:  # its order is drawn anew from seed and epoch at every call
        return [int(i) for i in islice(iter(sampler), begin, begin + size)]
    return None
