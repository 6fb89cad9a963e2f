"""Batches: how large they are, what to draw, and the epoch and the difficulty that the draw is made under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stablelit.data import LeftOut, LengthBucketBatchSampler
from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count

_OWNER = "ProteinDataModule"


@dataclass(frozen=True)
class BatchSize:
    """How large batches are.

    Args:
        batch_size: sequences of a batch.
        max_tokens: most tokens of a padded batch, in place of `batch_size`.
        multiple_of: batches are padded to a multiple of it.

    Raises:
        ConfigurationError: a number below 1.
    """

    batch_size: int
    max_tokens: int | None
    multiple_of: int

    def __post_init__(self) -> None:
        check_count(_OWNER, "batch_size", self.batch_size, 1)
        check_count(_OWNER, "multiple_of", self.multiple_of, 1)
        if self.max_tokens is not None:
            check_count(_OWNER, "max_tokens", self.max_tokens, 1)

    def check_holds(self, longest: int) -> None:
        """Refuses a budget that a window of `longest` residues does not fit in.

        Raises:
            ConfigurationError: with the least budget that does.
        """
        padded = -(-longest // self.multiple_of) * self.multiple_of
        if self.max_tokens is not None and self.max_tokens < padded:
            raise bad_argument(_OWNER, "max_tokens", self.max_tokens, f"at least {padded}, the longest padded window")

    def drops_last(self, n: int) -> bool:
        """Whether the last batch of an epoch is left out: a lone short one is all there is, others add noise."""
        return self.max_tokens is None and n > self.batch_size

    def arguments(self) -> dict[str, int]:
        """For a `LengthBucketBatchSampler`."""
        size = {"batch_size": self.batch_size} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return {**size, "multiple_of": self.multiple_of}


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
