"""In which order events are visited, and with which others in a batch, so that no file is read twice an epoch."""

from __future__ import annotations

from typing import Literal

from stablelit.data import LeftOut, LengthBucketBatchSampler, ShuffleSampler
from stablelit.families.neutrinos.dataset import EventDataset
from stablelit.families.neutrinos.told import say

Shuffle = Literal["auto", "full", "block", "sequential"]
_WINDOW, _POOL = 64, 64


def training_sampler(
    dataset: EventDataset | LeftOut, shuffle: Shuffle, bucket: bool, seed: int, epoch: int
) -> ShuffleSampler:
    """The order of training.

    Args:
        dataset: the training split.
        shuffle: "auto" is "block" where fewer files are kept than there are, otherwise "full".
        bucket: whether `buckets` will be made of it.
        seed: of the order.
        epoch: the first.
    """
    kept: int | None = getattr(dataset, "cache_size", None)
    rereads = kept is not None and kept < len(dataset.chunk_sizes)
    mode: Literal["full", "block", "sequential"] = "full"
    if shuffle != "auto":
        mode = shuffle
    elif rereads:
        mode = "block"
    window = kept or _WINDOW
    if kept and bucket and mode == "block":
        # where one window ends and the next begins, a pool of batches has files of both
        window = max(1, kept // 2)
        if kept == 1 and rereads:
            say("cache_files=1 reads files again for batches at their edges; cache_files=2 (or bucket=false) does not.")
    return ShuffleSampler(dataset, seed=seed, epoch=epoch, mode=mode, window_chunks=window)


def buckets(
    sampler: ShuffleSampler,
    dataset: EventDataset | LeftOut,
    batch_size: int,
    max_tokens: int | None = None,
    drop_last: bool = False,
    every_sample_once: bool = False,
) -> LengthBucketBatchSampler:
    """Batches of events with like numbers of sensors.

    Where files are read in blocks, a pool of batches has no more events than a window of files, so that it lies in two
    windows at most. Where they are read one after the other, a pool lies in no more files than are kept.

    Args:
        sampler: the order.
        dataset: that it orders.
        batch_size: events of a batch.
        max_tokens: most sensors of a padded batch, in place of `batch_size`.
        drop_last: leaves out the last batch of an epoch if it is not full (`batch_size` only).
        every_sample_once: for evaluation, on several ranks too.
    """
    pool, kept = _POOL, getattr(dataset, "cache_size", None)
    if kept is not None and sampler.mode != "full":
        in_batch = batch_size if max_tokens is None else max(1, max_tokens * len(dataset) // int(dataset.lengths.sum()))
        files = sampler.window_chunks if sampler.mode == "block" else kept - 1
        pool = max(1, min(_POOL, files * min(dataset.chunk_sizes) // (in_batch * sampler.num_replicas)))
    if max_tokens is not None:
        return LengthBucketBatchSampler(sampler, dataset.lengths, max_tokens=max_tokens, pool_batches=pool)
    return LengthBucketBatchSampler(
        sampler,
        dataset.lengths,
        batch_size=batch_size,
        pool_batches=pool,
        drop_last=drop_last,
        every_sample_once=every_sample_once,
    )
