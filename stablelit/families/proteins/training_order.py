"""Batches of training: what to draw, and with it the epoch and the difficulty that the draw is made under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stablelit.data import LeftOut, LengthBucketBatchSampler


class DrawnBatch(list[int]):
    """Places of samples, with the epoch (of random windows) and the difficulty in force when they were drawn.

    Data loaders hand it to their workers as it is. So a worker's copy of the data set needs no state of its own, which
    would be stale, and what a batch holds is a function of its place in training, not of how fast a worker is.
    """

    def __init__(self, places: Iterable[int], epoch: int, difficulty: float) -> None:
        super().__init__(places)
        self.epoch, self.difficulty = epoch, difficulty

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.epoch, self.difficulty)


class TrainingBatches(LengthBucketBatchSampler):
    """A `LengthBucketBatchSampler` of `DrawnBatch`; `difficulty` is read when a batch is drawn, in the main process.

    With workers a batch is drawn ``num_workers * prefetch_factor`` batches before it is trained on, and so is its
    difficulty. Takes every argument of `LengthBucketBatchSampler`.
    """

    difficulty = 1.0

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's batches from the `start`-th; `start` holds for one epoch."""
        for places in super().__iter__():
            yield DrawnBatch(places, self.sampler.epoch, self.difficulty)


class LeftOutSequences(LeftOut):
    """A data set of sequences without some of them, which hands on what a `DrawnBatch` carries."""

    def __getitems__(self, indices: list[int]) -> Any:
        places = self.original(indices).tolist()
        if isinstance(indices, DrawnBatch):
            places = DrawnBatch(places, indices.epoch, indices.difficulty)
        return self.dataset.__getitems__(places)
