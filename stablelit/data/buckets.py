"""LengthBucketBatchSampler: batches of samples of like length, in a random order, the same after a resume."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from stablelit.data.shuffle import Order, ShuffleSampler
from stablelit.errors import ConfigurationError, DataError, bad_argument
from stablelit.functional.length_buckets import cut_by_budget, padded_length, padding_ratio, split_to_count
from stablelit.functional.permutation import Permutation, mix

# the stream of keys for the order of batches; the sampler's own windows count up from 0
_BATCH_ORDER = 0x6C656E677468
_MANY = 2**17


class LengthBucketBatchSampler(Sampler[list[int]]):
    """Sorts pools of the shuffled order by length, cuts them into batches, and shuffles the batches of a pool.

    Give it to a `ShuffleDataLoader` as ``batch_sampler``. Every rank makes the same number of steps, the same in every
    epoch, and at each step the ranks share one batch of neighbours in length, so that none waits for another.

    With `batch_size` every batch has that many samples (but the last of an epoch), and a run continues on another
    number of ranks as long as the batch of all ranks together stays the same. With `max_tokens` a batch has as many
    samples as fit when they are padded to the longest: sizes differ from step to step, so that the mean over a batch
    weighs samples unequally, and a run continues inside an epoch on the same number of ranks only.

    Args:
        sampler: the order that the pools are taken from; ``mode="block"`` keeps its locality.
        lengths: tokens of each sample, by sample index (from metadata: no sample is read), shape (n,).
        batch_size: samples of a batch on one rank; or give
        max_tokens: most tokens of a padded batch on one rank.
        pool_batches: batches sorted together. More is less padding, and less random batches.
        multiple_of: what the collate function rounds the padded length up to.
        max_length: where the collate function cuts longer samples; None does not.
        drop_last: leaves out the last batch of an epoch if it is not full (`batch_size` only).

    Raises:
        ConfigurationError: an argument outside its range, both or neither of `batch_size` and `max_tokens`.
        DataError: a length below 1 or above the budget, or not one for each sample.

    Example:
        >>> sampler = ShuffleSampler(range(6), seed=1)
        >>> batches = list(LengthBucketBatchSampler(sampler, [9, 1, 2, 8, 1, 9], batch_size=3))
        >>> sorted(sorted(batch) for batch in batches)
        [[0, 3, 5], [1, 2, 4]]
    """

    def __init__(
        self,
        sampler: ShuffleSampler,
        lengths: Sequence[int] | NDArray[Any],
        batch_size: int | None = None,
        max_tokens: int | None = None,
        pool_batches: int = 64,
        multiple_of: int = 1,
        max_length: int | None = None,
        drop_last: bool = False,
    ) -> None:
        if not isinstance(sampler, ShuffleSampler):
            raise ConfigurationError(
                f"LengthBucketBatchSampler: sampler is a {type(sampler).__name__}; allowed: a ShuffleSampler. If "
                f"Lightning put another in, use a ShuffleDataLoader, which it leaves alone."
            )
        if (batch_size is None) == (max_tokens is None):
            raise ConfigurationError("LengthBucketBatchSampler: give either batch_size or max_tokens.")
        for name, value in (
            ("batch_size", batch_size),
            ("max_tokens", max_tokens),
            ("pool_batches", pool_batches),
            ("multiple_of", multiple_of),
            ("max_length", max_length),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise bad_argument("LengthBucketBatchSampler", name, value, "an int of 1 or more")
        self.sampler = sampler
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.pool_batches = pool_batches
        self.multiple_of = multiple_of
        self.max_length = max_length
        self.drop_last = drop_last
        self.lengths = self._checked(lengths)
        self.start = 0

    @property
    def global_batch(self) -> int:
        """Samples of one step of all ranks; 0 where it varies."""
        return 0 if self.batch_size is None else self.batch_size * self.sampler.num_replicas

    def __len__(self) -> int:
        if self.max_tokens is not None:
            return self._steps(self.sampler.num_replicas)
        return len(self.lengths) // self.global_batch + (self._last_batch > 0)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's batches from the `start`-th; `start` holds for one epoch."""
        start, self.start = self.start, 0
        rank, world = self.sampler.rank, self.sampler.num_replicas
        for batch in self._global_batches(start):
            yield batch[rank::world].tolist()

    def padding_ratio(self) -> float:
        """Padded over real tokens in this epoch, all ranks together."""
        batches = (self.lengths[batch] for batch in self._global_batches(0))
        return padding_ratio(batches, self.multiple_of)

    def settings(self) -> dict[str, Any]:
        """What the batches depend on besides the sampler, plain and the same on every rank."""
        return {
            "pool_batches": self.pool_batches,
            "drop_last": self.drop_last,
            "max_tokens": self.max_tokens or 0,
            "multiple_of": self.multiple_of if self.max_tokens else 1,
            "ranks": self.sampler.num_replicas if self.max_tokens else 0,
            "lengths_sha1": self._fingerprint,
        }

    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha1(self.lengths.tobytes()).hexdigest()

    @property
    def _last_batch(self) -> int:
        """Samples of the epoch's last, partial batch that come out (before ranks repeat some)."""
        left = len(self.lengths) % self.global_batch
        if self.drop_last:
            return 0
        return left - left % self.sampler.num_replicas if self.sampler.drop_last else left

    def _global_batches(self, start: int) -> Iterator[NDArray[np.int64]]:
        """The batches of all ranks together from the `start`-th."""
        n, order, key = len(self.lengths), self.sampler.order(), mix(self.sampler.seed, self.sampler.epoch)
        size = self._pool_size(self.sampler.num_replicas)
        # batches of fixed size can be counted without being made; those of a budget cannot
        pool = start // self.pool_batches if self.batch_size is not None else 0
        made = pool * self.pool_batches if self.batch_size is not None else 0
        for begin in range(pool * size, n, size):
            batches = self._cut(_samples(order, begin, min(begin + size, n)), begin, made)
            turn = Permutation(len(batches), mix(key, _BATCH_ORDER + begin // size))(range(len(batches)))
            if not self.sampler.shuffle:
                turn = np.arange(len(batches))
            yield from (batches[i] for i in turn[max(start - made, 0) :])
            made += len(batches)

    def _cut(self, samples: NDArray[np.int64], begin: int, made: int) -> list[NDArray[np.int64]]:
        """One pool in batches, longest first."""
        world, n = self.sampler.num_replicas, len(self.lengths)
        # the pool comes in a random order, which a stable sort keeps among equals
        samples = samples[np.argsort(-self.lengths[samples], kind="stable")]
        last = begin + len(samples) == n
        if self.batch_size is not None:
            # the partial batch is the shortest, where a repeated sample costs the least
            kept = len(samples) - (n % self.global_batch - self._last_batch if last else 0)
            bounds = range(self.global_batch, kept, self.global_batch)
            batches = np.split(samples[:kept], bounds) if kept else []
        else:
            samples = samples[: len(samples) - len(samples) % world] if self.sampler.drop_last else samples
            sizes = self._budgeted(samples, world)
            whole, done = self._steps(world), begin + len(samples)
            left = whole - made
            wanted = left if last else max(0, whole * done // n - made)
            sizes = split_to_count(sizes, wanted, world)
            if len(sizes) > left:
                unused = sum(sizes[left:])
                warnings.warn(
                    f"LengthBucketBatchSampler: {unused} of {n} samples do not fit into the {whole} steps of epoch "
                    f"{self.sampler.epoch} and are left out of it.",
                    stacklevel=2,
                )
                sizes = sizes[:left]
            batches = np.split(samples, np.cumsum(sizes, dtype=np.int64))[:-1]
        if batches and len(batches[-1]) % world:
            short = -len(batches[-1]) % world
            batches[-1] = np.concatenate([batches[-1], np.resize(batches[-1], short)])
        return batches

    def _budgeted(self, samples: NDArray[np.int64], world: int) -> list[int]:
        assert self.max_tokens is not None
        return cut_by_budget(padded_length(self.lengths[samples], self.multiple_of), self.max_tokens, world)

    def _pool_size(self, world: int) -> int:
        """Samples of a pool, a multiple of the number of ranks."""
        if self.batch_size is not None:
            return self.pool_batches * self.batch_size * world
        assert self.max_tokens is not None
        mean = float(padded_length(self.lengths, self.multiple_of).mean())
        return self.pool_batches * max(1, int(self.max_tokens / mean)) * world

    def _steps(self, world: int) -> int:
        """Steps of every epoch with a budget, counted on a few orders and with some to spare for the others.

        Lightning asks for the number of steps once, before it says which epoch it is: it must not vary. An epoch that
        needs fewer gets smaller batches.
        """
        if world not in self._counted:
            n, size = len(self.lengths), self._pool_size(world)
            pools = -(-n // size)
            tried = 1 if pools == 1 or n > _MANY else 8
            count = max(self._count(Permutation(n, key), size, world) for key in range(tried))
            # the tokens of all pools are the data's, so that only what pools leave in their last batch varies
            spare = 0 if pools == 1 else 1 + math.ceil(2.5 * math.sqrt(pools))
            most = n // world if self.sampler.drop_last else -(-n // world)
            self._counted[world] = min(count + spare, most)
        return self._counted[world]

    def _count(self, order: Order, size: int, world: int) -> int:
        n, count = len(self.lengths), 0
        for begin in range(0, n, size):
            pool = _samples(order, begin, min(begin + size, n))
            count += len(self._budgeted(pool[np.argsort(-self.lengths[pool], kind="stable")], world))
        return count

    @cached_property
    def _counted(self) -> dict[int, int]:
        return {}

    def _checked(self, lengths: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        array: NDArray[Any] = np.asarray(lengths)
        n = len(self.sampler.dataset)  # type: ignore[arg-type]
        if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
            raise DataError(
                f"LengthBucketBatchSampler: lengths has shape {array.shape} and type {array.dtype}; it needs one int "
                f"for each of the {n} samples."
            )
        self._refuse_where(array < 1, array, "below 1", "Leave the samples out, or mend the metadata.")
        array = np.minimum(array, self.max_length if self.max_length is not None else array.max())
        if self.max_tokens is not None:
            self._refuse_where(
                padded_length(array, self.multiple_of) > self.max_tokens,
                array,
                f"above max_tokens={self.max_tokens} (padded to a multiple of {self.multiple_of})",
                "Raise max_tokens, or set max_length to where your collate function cuts.",
            )
        # half the memory, where it suffices
        return array.astype(np.int32 if array.max() < 2**31 else np.int64)

    @staticmethod
    def _refuse_where(bad: NDArray[np.bool_], lengths: NDArray[Any], what: str, remedy: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"LengthBucketBatchSampler: lengths[{at}]={int(lengths[at])} is {what} "
                f"({int(bad.sum())} of {len(lengths)} are). {remedy}"
            )


def _samples(order: Order, begin: int, end: int) -> NDArray[np.int64]:
    return np.asarray(order(range(begin, end)), dtype=np.int64)
