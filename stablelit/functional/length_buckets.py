"""Cutting a pool of samples, sorted by length, into batches that need little padding."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SHARING = 8


def padded_length(lengths: NDArray[Any], multiple_of: int) -> NDArray[Any]:
    """Lengths rounded up to a multiple."""
    rounded: NDArray[Any] = -(-lengths // multiple_of) * multiple_of
    return rounded


def cut_by_budget(lengths: Sequence[int] | NDArray[Any], budget: int, ranks: int = 1) -> list[int]:
    """How many of the samples, longest first, go into each batch of at most `budget` padded tokens a rank.

    Args:
        lengths: padded lengths in descending order, none above the budget, shape (n,).
        budget: count x longest, on one rank.
        ranks: a batch holds a multiple of this many samples (the last one what is left).

    Example:
        >>> cut_by_budget([8, 4, 4, 2, 2, 1], budget=8)
        [1, 2, 3]
    """
    sizes, at = [], 0
    while at < len(lengths):
        sizes.append(min(budget // int(lengths[at]) * ranks, len(lengths) - at))
        at += sizes[-1]
    return sizes


def split_to_count(sizes: Sequence[int], count: int, multiple: int = 1) -> list[int]:
    """Halves the largest batches, in their places, until there are `count`, or none has more than `multiple` samples.

    Args:
        sizes: samples in each batch.
        count: batches wanted; no batches are ever merged.
        multiple: a batch is only split into multiples of this (what is left over stays in the second half).

    Example:
        >>> split_to_count([1, 2, 5], 4)
        [1, 2, 2, 3]
    """
    # a place in the result is (place in sizes, offset): halves stay where the whole was
    heap = [(-size, place, 0) for place, size in enumerate(sizes)]
    heapq.heapify(heap)
    while heap and len(heap) < count and -heap[0][0] > multiple:
        size, place, offset = -heap[0][0], heap[0][1], heap[0][2]
        half = max(size // multiple // 2, 1) * multiple
        heapq.heapreplace(heap, (-half, place, offset))
        heapq.heappush(heap, (half - size, place, offset + half))
    return [-size for size, _, _ in sorted(heap, key=lambda part: part[1:])]


def wanted_batches(
    whole: int, expected: int, made: int, share: float, rest: float, after: int, pools_left: int, ranks: int = 1
) -> int:
    """How many batches a pool should be cut into, so that an epoch has `whole` of them in the end.

    What is to spare is kept until the last pools, which share it, the very last one taking what is left.

    Args:
        whole: batches of an epoch.
        expected: batches of an epoch that is cut by the budget alone; `whole` - `expected` are to spare.
        made: batches of the pools before.
        share: this pool's part of all tokens, 0 to 1: it needs about that part of the batches.
        rest: the part of the pools behind it.
        after: samples of the pools behind it.
        pools_left: pools not yet cut, this one included.
        ranks: a batch has at least one sample for each.
    """
    if pools_left == 1:
        return whole - made
    # what the pools behind could not make up for, even with batches of one sample a rank
    needed = whole - made - after // ranks
    if pools_left > _SHARING:
        return needed
    spare = whole - made - expected * (share + rest)
    return max(needed, int(expected * share + spare / (pools_left + 1)))


def padding_ratio(batches: Iterable[ArrayLike], multiple_of: int = 1) -> float:
    r"""Tokens after padding to each batch's longest over real tokens: :math:`\sum_b B_b \max_b / \sum_i l_i`.

    Args:
        batches: the lengths of each batch's samples.
        multiple_of: the longest is rounded up to a multiple of this.

    Example:
        >>> padding_ratio([[1, 3], [2, 2]])
        1.25
    """
    padded = real = 0
    for batch in batches:
        lengths = np.asarray(batch, dtype=np.int64)
        padded += len(lengths) * int(padded_length(lengths.max(keepdims=True), multiple_of)[0])
        real += int(lengths.sum())
    return padded / real
