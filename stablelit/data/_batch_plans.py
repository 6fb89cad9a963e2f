"""Where LengthBucketBatchSampler cuts: the pools of an epoch, the steps of it, and the batches of each pool."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stablelit.functional.length_buckets import cut_by_budget, padded_length, split_to_count, wanted_batches
from stablelit.functional.permutation import Permutation

_MANY = 2**17


class BatchPlan(Protocol):
    """How an epoch is cut. Samples are counted over all ranks together.

    Attributes:
        edges: where pools begin, and where the last one ends.
        steps: of every epoch.
    """

    edges: list[int]
    steps: int

    def skip(self, start: int) -> tuple[int, int]:
        """The pool in which to look for batch `start`, and the batches before that pool."""

    def sizes(self, pool: int, lengths: NDArray[Any], made: int, tokens: int) -> list[int]:
        """Samples of each batch of a pool, longest first; what is left over is left out.

        Args:
            pool: which pool.
            lengths: of its samples, in descending order.
            made: batches of the pools before it.
            tokens: padded tokens of the pools before it.
        """


class FixedPlan:
    """Batches of one size.

    Args:
        n: samples.
        batch: samples of a batch.
        pool_batches: batches of a pool.
        left: samples of the epoch's last, partial batch that are not left out.
    """

    def __init__(self, n: int, batch: int, pool_batches: int, left: int) -> None:
        self.edges = [*range(0, n, pool_batches * batch), n]
        self.steps = n // batch + (left > 0)
        self._batch, self._pool_batches, self._left = batch, pool_batches, left

    def skip(self, start: int) -> tuple[int, int]:
        """Batches of one size are counted without being made."""
        pool = start // self._pool_batches
        return pool, pool * self._pool_batches

    def sizes(self, pool: int, lengths: NDArray[Any], made: int, tokens: int) -> list[int]:
        """The partial batch is the shortest, where a sample that is repeated costs the least."""
        last = pool == len(self.edges) - 2
        return [self._batch] * (len(lengths) // self._batch) + ([self._left] if last and self._left else [])


class EveryOncePlan:
    """All samples, each once: for evaluation, whose order is the same in every epoch.

    A last batch of fewer samples than ranks is joined to the one before it.

    Args:
        pools: lengths of the samples of each pool.
        cut: sizes of the batches of a pool, of its lengths in descending order: multiples of `ranks`, but for the last.
        ranks: each gets a part of every batch.
    """

    def __init__(self, pools: Sequence[NDArray[Any]], cut: Callable[[NDArray[Any]], list[int]], ranks: int) -> None:
        pools = list(pools)
        if len(pools) > 1 and len(pools[-1]) < ranks:
            pools[-2:] = [np.concatenate(pools[-2:])]
        self._sizes = [cut(-np.sort(-lengths)) for lengths in pools]
        for sizes in self._sizes:
            if len(sizes) > 1 and sizes[-1] < ranks:
                sizes[-2:] = [sizes[-2] + sizes[-1]]
        self.edges = [0, *itertools.accumulate(map(len, pools))]
        self.steps = sum(map(len, self._sizes))

    def skip(self, start: int) -> tuple[int, int]:
        """An evaluation begins at its beginning."""
        return 0, 0

    def sizes(self, pool: int, lengths: NDArray[Any], made: int, tokens: int) -> list[int]:
        """As they were cut."""
        return self._sizes[pool]


class BudgetPlan:
    """Batches of as many samples as a budget of padded tokens allows.

    Lightning asks for the number of steps once, before it says which epoch it is: it must not vary. It is counted on a
    few orders, with some to spare for the others; an epoch that needs fewer gets some smaller batches.

    Args:
        lengths: of every sample.
        max_tokens: of one rank.
        multiple_of: what a batch's longest is rounded up to.
        pool_batches: batches of a pool, about.
        ranks: each gets an equal share of every batch.
        drop_tail: leaves out samples that the ranks cannot share, instead of repeating some.
    """

    def __init__(
        self, lengths: NDArray[Any], max_tokens: int, multiple_of: int, pool_batches: int, ranks: int, drop_tail: bool
    ) -> None:
        n = len(lengths)
        self._max_tokens, self._multiple_of = max_tokens, multiple_of
        self._ranks, self._drop_tail = ranks, drop_tail
        self._tokens = int(padded_length(lengths, multiple_of).sum(dtype=np.int64))
        self.edges = budget_edges(n, self._tokens, max_tokens, pool_batches, ranks)
        pools = len(self.edges) - 1
        tried = 1 if pools == 1 or n > _MANY else 8
        self._expected = max(self._count(lengths, Permutation(n, key)) for key in range(tried))
        # the tokens of all pools are the data's, so that only what pools leave in their last batch varies
        spare = 0 if pools == 1 else 1 + math.ceil(2.5 * math.sqrt(pools))
        self.steps = min(self._expected + spare, n // ranks if drop_tail else -(-n // ranks))

    def skip(self, start: int) -> tuple[int, int]:
        """How many batches a pool has is known when it is made."""
        return 0, 0

    def sizes(self, pool: int, lengths: NDArray[Any], made: int, tokens: int) -> list[int]:
        """As the budget cuts, and some of them halved where an epoch would otherwise have too few."""
        here = int(padded_length(lengths, self._multiple_of).sum(dtype=np.int64))
        wanted = wanted_batches(
            whole=self.steps,
            expected=self._expected,
            made=made,
            share=here / self._tokens,
            rest=1 - (tokens + here) / self._tokens,
            after=self.edges[-1] - self.edges[pool + 1],
            pools_left=len(self.edges) - 1 - pool,
            ranks=self._ranks,
        )
        sizes = split_to_count(self._cut(lengths), wanted, self._ranks)
        left = self.steps - made
        if len(sizes) > left:
            warnings.warn(
                f"LengthBucketBatchSampler: {sum(sizes[left:])} of {self.edges[-1]} samples do not fit into the "
                f"{self.steps} steps that every epoch has and are left out of this one.",
                stacklevel=2,
            )
        return sizes[:left]

    def _cut(self, lengths: NDArray[Any]) -> list[int]:
        shared = len(lengths) - len(lengths) % self._ranks if self._drop_tail else len(lengths)
        return cut_by_budget(padded_length(lengths[:shared], self._multiple_of), self._max_tokens, self._ranks)

    def _count(self, lengths: NDArray[Any], order: Permutation) -> int:
        pools = (lengths[order(range(begin, end))] for begin, end in itertools.pairwise(self.edges))
        return sum(len(self._cut(-np.sort(-pool))) for pool in pools)


def budget_edges(n: int, tokens: int, max_tokens: int, pool_batches: int, ranks: int) -> list[int]:
    """Where the pools of n samples with so many padded tokens begin, and the last one ends; see :class:`BudgetPlan`."""
    pools = -(-n // (pool_batches * max(1, max_tokens * n // tokens) * ranks))
    # of equal size: a small last pool could not make up for what the others leave. Inner edges: multiples of ranks
    return [*(n // ranks * pool // pools * ranks for pool in range(pools)), n]
