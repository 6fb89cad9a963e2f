"""What an order of the data costs, in numbers, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.functional.permutation import BlockPermutation
from stablelit.functional.schedules import check_count, check_number
from stablelit.functional.shuffle_quality import expected_design_effect


@dataclass(frozen=True)
class ShuffleDescription:
    """The cost of an order; `str()` says it in words.

    Args:
        mode: "full", "block" or "sequential".
        samples: in the data.
        batch_size: of all ranks together, at most all samples.
        chunks: files or row groups; 0 where their sizes are not known.
        chunks_mixed: chunks that must be in memory at once so that none is loaded twice; 0 where not known.
        samples_mixed: the most samples that are mixed with each other.
        same_chunk_ratio: how often two samples of a batch share a chunk, over a random order; None where not known.
        design_effect: variance of a batch's mean label, over a random order's; None where not known.
        cache_size: chunks that the data set keeps; None where it does not say.
        loads_per_batch: expected loads of a chunk for one batch beyond the first load of each; None where not known.
    """

    mode: str
    samples: int
    batch_size: int
    chunks: int
    chunks_mixed: int
    samples_mixed: int
    same_chunk_ratio: float | None
    design_effect: float | None
    cache_size: int | None
    loads_per_batch: float | None

    @property
    def cache_holds_window(self) -> bool | None:
        """Whether what is mixed fits in the data set's cache; None where that is not known."""
        if self.cache_size is None or not self.chunks:
            return None
        return self.cache_size >= self.chunks_mixed

    def __str__(self) -> str:
        parts = [f"{self.mode} order of {self.samples} samples"]
        if self.chunks:
            parts.append(f"{self.chunks_mixed} of {self.chunks} chunks at a time ({self.samples_mixed} samples)")
        if self.design_effect is not None:
            parts.append(f"a batch of {self.batch_size} varies {self.design_effect:.2f}x as much as a random one")
        if self.cache_holds_window:
            parts.append(f"the cache of {self.cache_size} chunks holds them")
        elif self.cache_holds_window is False:
            parts.append(
                f"the cache of {self.cache_size} chunks does NOT hold them: {self.loads_per_batch:.1f} loads per batch "
                f"(use mode='block' with window_chunks={self.cache_size}, or cache_size={self.chunks_mixed})"
            )
        return "; ".join(parts)


def describe_order(
    n: int,
    mode: str,
    order: Callable[[range], Any] | None,
    chunk_sizes: NDArray[np.int64] | None,
    batch_size: int,
    label_icc: float,
    cache_size: int | None,
) -> ShuffleDescription:
    """The description of one epoch's order; `order` is the BlockPermutation where mode is "block".

    Raises:
        ConfigurationError: a batch size or cache size below 1, an intra-class correlation outside [-1, 1].
    """
    batch_size = min(check_count("ShuffleSampler.describe", "batch_size", batch_size, 1), n)
    if cache_size is not None:
        cache_size = check_count("ShuffleSampler.describe", "cache_size", cache_size, 1)
    label_icc = check_number("ShuffleSampler.describe", "label_icc", label_icc, at_least=-1.0, at_most=1.0)
    if chunk_sizes is None:
        effect = None if mode == "sequential" else 1.0
        ratio = None if mode == "sequential" else 1.0
        return ShuffleDescription(mode, n, batch_size, 0, 0, n, ratio, effect, cache_size, None)
    chunks = len(chunk_sizes)
    at_random = float((chunk_sizes * (chunk_sizes - 1.0)).sum()) / max(n * (n - 1.0), 1.0)
    same, mixed, samples_mixed = at_random, chunks, n
    if isinstance(order, BlockPermutation):
        same = order.same_chunk_probability()
        mixed = int(np.diff(order.first_chunk).max())
        samples_mixed = int(np.diff(order.window_ends, prepend=0).max())
    elif mode == "sequential":
        # neighbours share a chunk but at its edges, where a batch meets the next one
        same, mixed, samples_mixed = _sequential_probability(chunk_sizes, batch_size), 1, int(chunk_sizes.max())
    loads = None
    if cache_size is not None:
        # Of k chunks read at random a cache of K holds the wanted one with chance K/k
        loads = batch_size * max(0.0, 1.0 - cache_size / mixed)
    effect = expected_design_effect(same, chunks, batch_size, label_icc)
    ratio = same / at_random if at_random else 1.0
    return ShuffleDescription(mode, n, batch_size, chunks, mixed, samples_mixed, ratio, effect, cache_size, loads)


def _sequential_probability(chunk_sizes: NDArray[np.int64], batch_size: int) -> float:
    """The chance that two samples of `batch_size` neighbours share a chunk, for chunks of the mean size."""
    if batch_size < 2:
        return 0.0
    size = float(chunk_sizes.mean())
    distance = np.arange(1, batch_size)
    pairs = (batch_size - distance) * np.maximum(0.0, 1.0 - distance / size)
    return float(pairs.sum() / (batch_size * (batch_size - 1) / 2))
