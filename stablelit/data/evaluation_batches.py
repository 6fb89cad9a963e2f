"""EvaluationBatches: every sample once on however many ranks, so that metrics are those of one process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, Sampler

from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count

_OWNER = "EvaluationBatches"


class EvaluationBatches(BatchSampler):
    """Batches of a set in its order, of which no rank repeats a sample and none is left out.

    torch's `DistributedSampler` repeats the first samples where the ranks do not divide their number, and a metric then
    counts them twice. Here W ranks take windows of W batches in turns, and share the last window evenly: of n samples
    each rank makes the same number of batches, so that every rank joins every collective, and batches of the last step
    differ by one sample. A last window of fewer samples than ranks is joined to the one before it, whose batches are
    then larger by one. A mean that Lightning takes over batches and ranks is that over the samples where each batch is
    logged with its size (``self.log(..., sync_dist=True, batch_size=weight_among_ranks(self.trainer, len(batch)))``).

    Give it to a `ShuffleDataLoader` as ``batch_sampler``, which Lightning leaves alone under DDP. One process has the
    batches of a plain DataLoader.

    Args:
        sampler: ``ShuffleSampler(dataset, mode="sequential")``; another sampler (Lightning puts its own in for
            `overfit_batches`) is cut into batches as torch does.
        batch_size: samples of a batch on one rank.
        drop_last: False; the argument is there because Lightning rebuilds batch samplers with it.

    Raises:
        ConfigurationError: a batch size below 1; `drop_last`, which would leave samples out.

    Example:
        >>> from stablelit.data import ShuffleSampler
        >>> ranks = [ShuffleSampler(range(11), mode="sequential", num_replicas=2, rank=r) for r in (0, 1)]
        >>> [list(EvaluationBatches(rank, batch_size=3)) for rank in ranks]
        [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10]]]
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, drop_last: bool = False) -> None:
        if drop_last:
            raise bad_argument(_OWNER, "drop_last", drop_last, "False", "An evaluation is of every sample.")
        super().__init__(sampler, check_count(_OWNER, "batch_size", batch_size, 1), False)

    def __len__(self) -> int:
        if not isinstance(self.sampler, ShuffleSampler):
            return super().__len__()
        return len(windows(len(self.sampler.dataset), self._window, self.sampler.num_replicas))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's batches."""
        sampler = self.sampler
        if not isinstance(sampler, ShuffleSampler):
            yield from super().__iter__()
            return
        order, rank, world = sampler.order(), sampler.rank, sampler.num_replicas
        # the place of a resumed training is not one in here
        sampler.start, begin = 0, 0
        for size in windows(len(sampler.dataset), self._window, world):  # type: ignore[arg-type]
            samples = np.asarray(order(range(begin, begin + size)), dtype=np.int64)
            yield share_of(samples, rank, world).tolist()
            begin += size

    @property
    def _window(self) -> int:
        assert isinstance(self.sampler, ShuffleSampler)
        return self.batch_size * self.sampler.num_replicas


def number_among_ranks(trainer: Any, batch_idx: int) -> int:
    """The number that an :class:`EvaluationBatches` batch has on one process, for what is drawn by it.

    On other ranks other samples have the same `batch_idx`, and are to be drawn for otherwise.
    """
    return batch_idx if trainer is None else batch_idx * int(trainer.world_size) + int(trainer.global_rank)


def weight_among_ranks(trainer: Any, size: int) -> int:
    """What to log a batch's mean with, as ``batch_size=``, where ranks have batches of different sizes.

    Lightning averages the ranks' sizes as whole numbers, which takes away a half; of multiples it takes nothing.
    """
    return size if trainer is None else size * int(trainer.world_size)


def windows(n: int, window: int, ranks: int) -> Sequence[int]:
    """How many samples all ranks take in each step: `window`, and in the last one what is left.

    Example:
        >>> windows(11, window=4, ranks=2), windows(9, window=4, ranks=2)
        ([4, 4, 3], [4, 5])
    """
    full, left = divmod(n, window)
    if left < ranks and full:
        return [window] * (full - 1) + [window + left]
    return [window] * full + [left]


def share_of(samples: NDArray[np.int64], rank: int, ranks: int) -> NDArray[np.int64]:
    """A rank's part of a step's samples: neighbours, as many as on any other rank or one fewer.

    Every rank takes part in every step: of fewer samples than ranks some are repeated, and that is said.

    Example:
        >>> [share_of(np.arange(5), rank, 2).tolist() for rank in (0, 1)]
        [[0, 1, 2], [3, 4]]
    """
    if len(samples) < ranks:
        warnings.warn(
            f"{len(samples)} samples to evaluate for {ranks} ranks: {ranks - len(samples)} are counted twice. Evaluate "
            f"on fewer ranks, or more samples.",
            stacklevel=2,
        )
        samples = np.resize(samples, ranks)
    return np.array_split(samples, ranks)[rank]
