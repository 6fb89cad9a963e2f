"""LengthBucketBatchSampler: batches of samples of like length, in a random order, the same after a resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from stablelit.data._batch_plans import BatchPlan, BudgetPlan, EveryOncePlan, FixedPlan, budget_edges
from stablelit.data._saved_state import extent, extents_in_words, sha1
from stablelit.data.evaluation_batches import share_of
from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import ConfigurationError, DataError, bad_argument
from stablelit.functional.length_buckets import cut_by_budget, padded_length, padding_ratio
from stablelit.functional.permutation import Permutation, mix
from stablelit.functional.schedules import check_count, check_flag

_OWNER = "LengthBucketBatchSampler"

# the stream of keys for the order of batches; the sampler's own windows count up from 0
_BATCH_ORDER = 0x6C656E677468


class LengthBucketBatchSampler(Sampler[list[int]]):
    """Sorts pools of the shuffled order by length, cuts them into batches, and shuffles the batches of a pool.

    Give it to a `ShuffleDataLoader` as ``batch_sampler``. Every rank makes the same number of steps, the same in every
    epoch, and at each step the ranks share one batch of neighbours in length, so that none waits for another.

    With `batch_size` every batch has that many samples (but the last of an epoch), and a run continues on another
    number of ranks as long as the batch of all ranks together stays the same. With `max_tokens` a batch has as many
    samples as fit when they are padded to the longest: sizes differ from step to step, so that the mean over a batch
    weighs samples unequally, and a run continues inside an epoch on the same number of ranks only.

    Args:
        sampler: the order that the pools are taken from; ``mode="block"`` keeps its locality, and with
            ``mode="sequential"`` the batches of a pool come longest first.
        lengths: tokens of each sample, by sample index (from metadata: no sample is read), shape (n,).
        batch_size: samples of a batch on one rank; or give
        max_tokens: most tokens of a padded batch on one rank.
        pool_batches: batches sorted together. More is less padding, and less random batches.
        multiple_of: what the collate function rounds the padded length up to.
        max_length: where the collate function cuts longer samples; None does not.
        drop_last: leaves out the last batch of an epoch if it is not full (`batch_size` only).
        every_sample_once: for evaluation, with a sampler of ``mode="sequential"``: no sample is repeated or left out
            where ranks cannot share a batch evenly. Their parts differ by one sample, which may lie above `max_tokens`.

    Raises:
        ConfigurationError: an argument outside its range, both or neither of `batch_size` and `max_tokens`;
            `every_sample_once` with `drop_last` or with an order that differs from epoch to epoch.
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
        lengths: Sequence[int] | NDArray[Any] = (),
        batch_size: int | None = None,
        max_tokens: int | None = None,
        pool_batches: int = 64,
        multiple_of: int = 1,
        max_length: int | None = None,
        drop_last: bool = False,
        every_sample_once: bool = False,
    ) -> None:
        # Under DDP Lightning rebuilds a plain DataLoader's batch sampler from (sampler, batch_size, drop_last):
        # `lengths` has a default so that this error is met, and not a missing argument.
        if not isinstance(sampler, ShuffleSampler):
            raise ConfigurationError(
                f"LengthBucketBatchSampler: sampler is a {type(sampler).__name__}; allowed: a ShuffleSampler(dataset). "
                f"If Lightning put another in: for overfit_batches, use limit_train_batches instead; for DDP, use a "
                f"ShuffleDataLoader, which it leaves alone."
            )
        if (batch_size is None) == (max_tokens is None):
            raise ConfigurationError("LengthBucketBatchSampler: give either batch_size or max_tokens.")
        self.sampler = sampler
        self.batch_size = None if batch_size is None else check_count(_OWNER, "batch_size", batch_size, 1)
        self.max_tokens = None if max_tokens is None else check_count(_OWNER, "max_tokens", max_tokens, 1)
        self.pool_batches = check_count(_OWNER, "pool_batches", pool_batches, 1)
        self.multiple_of = check_count(_OWNER, "multiple_of", multiple_of, 1)
        self.max_length = None if max_length is None else check_count(_OWNER, "max_length", max_length, 1)
        self.drop_last = check_flag(_OWNER, "drop_last", drop_last)
        self.every_sample_once = check_flag(_OWNER, "every_sample_once", every_sample_once)
        if self.every_sample_once and (drop_last or sampler.drop_last or sampler.mode != "sequential"):
            raise bad_argument(
                _OWNER,
                "every_sample_once",
                True,
                "drop_last=False here and in a ShuffleSampler(dataset, mode='sequential')",
                f"Here drop_last={drop_last}, there drop_last={sampler.drop_last} and mode={sampler.mode!r}.",
            )
        self.lengths = self._checked(lengths)
        self.start = 0
        self._plans: dict[tuple[int, bool], BatchPlan] = {}

    @property
    def global_batch(self) -> int:
        """Samples of one step of all ranks; 0 where it varies."""
        return 0 if self.batch_size is None else self.batch_size * self.sampler.num_replicas

    def __len__(self) -> int:
        return self._plan().steps

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's batches from the `start`-th; `start` holds for one epoch."""
        start, self.start = self.start, 0
        yield from self._batches(start)

    def batch(self, number: int) -> list[int]:
        """This rank's batch of that number in the epoch, as iterating gives it; empty where there is none."""
        return next(self._batches(number), [])

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
            "lengths": extent(self.lengths),
        }

    def mismatch(self, saved: dict[str, Any]) -> str:
        """What of saved settings does not fit these, with both values; empty where they fit."""
        mine = self.settings()
        for name in ("pool_batches", "drop_last", "max_tokens", "multiple_of", "ranks"):
            if saved.get(name, mine[name]) != mine[name]:
                return f"the checkpoint's batch sampler had {name}={saved[name]!r}, now it has {mine[name]!r}."
        if saved.get("lengths_sha1") != mine["lengths_sha1"]:
            told = extents_in_words("lengths", "tokens", saved.get("lengths"), mine["lengths"])
            return f"the checkpoint's batch sampler had {told}."
        return ""

    @cached_property
    def _fingerprint(self) -> str:
        return sha1(self.lengths)

    def _batches(self, start: int) -> Iterator[list[int]]:
        rank, world = self.sampler.rank, self.sampler.num_replicas
        for batch in self._global_batches(start):
            mine = share_of(batch, rank, world) if self.every_sample_once else batch[rank::world]
            yield mine.tolist()

    def _global_batches(self, start: int) -> Iterator[NDArray[np.int64]]:
        """The batches of all ranks together from the `start`-th."""
        plan, order, key = self._plan(), self.sampler.order(), mix(self.sampler.seed, self.sampler.epoch)
        pool, made = plan.skip(start)
        tokens = 0
        for at in range(pool, len(plan.edges) - 1):
            samples = np.asarray(order(range(plan.edges[at], plan.edges[at + 1])), dtype=np.int64)
            # the pool comes in a random order, which a stable sort keeps among equals
            samples = samples[np.argsort(-self.lengths[samples], kind="stable")]
            lengths = self.lengths[samples]
            sizes = plan.sizes(at, lengths, made, tokens)
            batches = np.split(samples, np.cumsum(sizes, dtype=np.int64))[:-1]
            turn = np.arange(len(batches))
            if self.sampler.shuffle:
                turn = Permutation(len(batches), mix(key, _BATCH_ORDER + at))(range(len(batches)))
            yield from (self._shared(batches[i]) for i in turn[max(start - made, 0) :])
            made += len(batches)
            tokens += int(padded_length(lengths, self.multiple_of).sum(dtype=np.int64))

    def _shared(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """A batch that the ranks can share, if need be by repeating some of its samples."""
        if self.every_sample_once:
            return batch
        short = -len(batch) % self.sampler.num_replicas
        return np.concatenate([batch, np.resize(batch, short)]) if short else batch

    def _plan(self) -> BatchPlan:
        world, drop_tail, n = self.sampler.num_replicas, self.sampler.drop_last, len(self.lengths)
        if self.batch_size is not None and not self.every_sample_once:
            left = 0 if self.drop_last else n % self.global_batch
            left -= left % world if drop_tail else 0
            return FixedPlan(n, self.global_batch, self.pool_batches, left)
        if (world, drop_tail) not in self._plans:
            self._plans[world, drop_tail] = self._plan_of_all(world) if self.every_sample_once else self._budget()
        return self._plans[world, drop_tail]

    def _budget(self) -> BudgetPlan:
        assert self.max_tokens is not None
        world, drop_tail = self.sampler.num_replicas, self.sampler.drop_last
        return BudgetPlan(self.lengths, self.max_tokens, self.multiple_of, self.pool_batches, world, drop_tail)

    def _plan_of_all(self, world: int) -> EveryOncePlan:
        def cut(lengths: NDArray[Any]) -> list[int]:
            if self.max_tokens is not None:
                return cut_by_budget(padded_length(lengths, self.multiple_of), self.max_tokens, world)
            return [min(self.global_batch, len(lengths) - at) for at in range(0, len(lengths), self.global_batch)]

        n = len(self.lengths)
        if self.max_tokens is None:
            edges = [*range(0, n, self.pool_batches * self.global_batch), n]
        else:
            tokens = int(padded_length(self.lengths, self.multiple_of).sum(dtype=np.int64))
            edges = budget_edges(n, tokens, self.max_tokens, self.pool_batches, world)
        order = self.sampler.order()
        pools = [self.lengths[order(range(begin, end))] for begin, end in pairwise(edges)]
        return EveryOncePlan(pools, cut, world)

    def _checked(self, lengths: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.asarray(lengths)
        except ValueError:  # rows of different lengths
            raise DataError(f"{_OWNER}: lengths are rows of different lengths; it needs one int a sample.") from None
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
