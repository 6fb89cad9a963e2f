r"""How random an order is where it matters: in what meets in a batch.

Samples come in chunks (files, row groups), :math:`c_j` samples in chunk j, N in all, and labels may be alike within a
chunk. A batch that holds few chunks then has a noisier mean than a batch drawn at random, and the gradient with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stablelit.errors import ConfigurationError, DataError
from stablelit.functional.schedules import check_count


def shuffle_quality(
    order: ArrayLike,
    batch_size: int,
    chunk_id: ArrayLike,
    labels: ArrayLike | None = None,
    next_order: ArrayLike | None = None,
) -> dict[str, float]:
    """All the measures of this module that the arguments allow.

    Args:
        order: sample indices in the order in which an epoch visits them, a permutation, shape (N,).
        batch_size: of all ranks together.
        chunk_id: the chunk of each sample, by sample index, shape (N,).
        labels: a number per sample, by sample index, shape (N,); asks for `design_effect` and `label_icc`.
        next_order: the next epoch's order, shape (N,); asks for `recurrence`.

    Returns:
        `same_chunk_ratio` (ideal 1), `displacement` (ideal 1), `design_effect` (ideal 1), `label_icc`, `recurrence`
        (ideal 1).

    Raises:
        ConfigurationError: an order that is no permutation, other shapes, a batch size below 1.
        DataError: a label that is not finite.

    Example:
        >>> quality = shuffle_quality(order=range(8), batch_size=2, chunk_id=[0, 0, 0, 0, 1, 1, 1, 1])
        >>> round(quality["same_chunk_ratio"], 2), quality["displacement"]
        (2.33, 0.0)
    """
    visited = _permutation("order", order)
    chunks = _aligned("chunk_id", chunk_id, len(visited))
    batch_size = check_count("shuffle_quality", "batch_size", batch_size, 1)
    quality = {
        "same_chunk_ratio": same_chunk_ratio(visited, chunks, batch_size),
        "displacement": displacement(visited),
    }
    if labels is not None:
        values = _finite(_aligned("labels", labels, len(visited)))
        quality["design_effect"] = batch_design_effect(values[visited], batch_size)
        quality["label_icc"] = label_icc(values, chunks)
    if next_order is not None:
        after = _permutation("next_order", next_order)
        quality["recurrence"] = pair_recurrence(visited, _aligned("next_order", after, len(visited)), batch_size)
    return quality


def same_chunk_ratio(order: NDArray[Any], chunk_id: NDArray[Any], batch_size: int) -> float:
    r"""The chance that two samples of one batch share a chunk, over that of a random batch.

    .. math:: R = \frac{P(\text{same chunk} \mid \text{same batch})}{\sum_j c_j (c_j - 1) / (N (N - 1))}

    With k chunks mixed at a time R is about (number of chunks) / k. 1 where no two samples share a chunk.
    """
    n = len(order)
    _, chunks, sizes = np.unique(chunk_id, return_inverse=True, return_counts=True)
    at_random = float((sizes * (sizes - 1.0)).sum()) / max(n * (n - 1.0), 1.0)
    same, pairs = _shared_pairs(np.arange(n) // batch_size, chunks[order])
    return 1.0 if at_random == 0 or pairs == 0 else same / pairs / at_random


def batch_design_effect(labels_in_order: NDArray[Any], batch_size: int) -> float:
    r"""The variance of a batch's mean label over that of a batch drawn at random without replacement.

    .. math:: \mathrm{deff} = \operatorname{Var}(\bar y_b) \Big/ \frac{\sigma^2}{B}\frac{N - B}{N - 1}

    Ideal 1. This is the factor on the label's share of the gradient noise: deff 2 is a batch of half the size. Only
    whole batches count; with fewer than two of them there is no variance and the answer is nan.
    """
    n = len(labels_in_order)
    whole = n // batch_size
    variance = float(np.var(labels_in_order))
    if whole < 2 or variance == 0:
        return math.nan
    means = labels_in_order[: whole * batch_size].reshape(whole, batch_size).mean(axis=1)
    expected = variance / batch_size * (n - batch_size) / (n - 1)
    return float(np.mean((means - labels_in_order.mean()) ** 2) / expected)


def expected_design_effect(same_chunk: float, n_chunks: int, batch_size: int, icc: float) -> float:
    r"""What `batch_design_effect` is expected to be (Kish's design effect of a cluster sample).

    .. math:: \mathrm{deff} = 1 + (B - 1)\,\rho\,\Big(P - \frac{1 - P}{C - 1}\Big)

    P is the chance that two samples of a batch share a chunk (1/k with k chunks mixed), C the number of chunks. The
    last term is that samples of different chunks of a finite set are anti-correlated: it makes deff 1 for a full
    shuffle, P = 1/C, where Kish's 1 + (B - 1) rho / k has it above 1.

    Source: L. Kish, Survey Sampling (1965), section 5.4.
    """
    if n_chunks < 2:
        return 1.0
    return 1.0 + (batch_size - 1) * icc * (same_chunk - (1.0 - same_chunk) / (n_chunks - 1))


def chunks_to_mix(batch_size: int, icc: float, excess: float = 0.1) -> int:
    """The fewest chunks to mix for a design effect of at most 1 + `excess`: (B - 1) rho / excess, rounded up.

    Example:
        >>> chunks_to_mix(256, icc=0.02)
        51
    """
    return max(1, math.ceil((batch_size - 1) * icc / excess - 1e-9))


def label_icc(labels: NDArray[Any], chunk_id: NDArray[Any]) -> float:
    r"""The intra-class correlation of a label with the chunk, by one-way analysis of variance.

    .. math:: \rho = \frac{\mathrm{MSB} - \mathrm{MSW}}{\mathrm{MSB} + (m_0 - 1)\,\mathrm{MSW}} ,\qquad
              m_0 = \frac{N - \sum_j c_j^2 / N}{C - 1}

    0 where chunks are alike (it may come out slightly negative), 1 where a chunk has one label. nan with one chunk, or
    with one sample in every chunk.
    """
    _, chunks, sizes = np.unique(chunk_id, return_inverse=True, return_counts=True)
    n, c = len(labels), len(sizes)
    if c < 2 or n <= c:
        return math.nan
    means = np.bincount(chunks, weights=labels) / sizes
    between = float((sizes * (means - labels.mean()) ** 2).sum()) / (c - 1)
    within = float(((labels - means[chunks]) ** 2).sum()) / (n - c)
    size = (n - float((sizes.astype(float) ** 2).sum()) / n) / (c - 1)
    total = between + (size - 1) * within
    return math.nan if total == 0 else (between - within) / total


def displacement(order: NDArray[Any]) -> float:
    r"""How far samples move: :math:`E|\pi(i) - i|` over its value N/3 for a random order.

    A weak measure: whole chunks in a random order, unmixed, score 0.93.
    """
    n = len(order)
    return 0.0 if n < 2 else float(np.abs(order - np.arange(n)).mean() / ((n * n - 1) / (3 * n)))


def pair_recurrence(order: NDArray[Any], next_order: NDArray[Any], batch_size: int) -> float:
    """The chance that two samples of one batch meet again in the next epoch, over that of a random order (ideal 1)."""
    n = len(order)
    batch = np.empty(n, dtype=np.int64)
    batch[order] = np.arange(n) // batch_size
    same, pairs = _shared_pairs(np.arange(n) // batch_size, batch[next_order])
    _, sizes = np.unique(np.arange(n) // batch_size, return_counts=True)
    at_random = float((sizes * (sizes - 1.0)).sum()) / max(n * (n - 1.0), 1.0)
    return 1.0 if at_random == 0 or pairs == 0 else same / pairs / at_random


def _shared_pairs(batch: NDArray[Any], group: NDArray[Any]) -> tuple[float, float]:
    """Ordered pairs of one batch that share a group, and ordered pairs of one batch."""
    _, together = np.unique(batch * (int(group.max()) + 1) + group, return_counts=True)
    sizes = np.bincount(batch).astype(float)
    return float((together * (together - 1.0)).sum()), float((sizes * (sizes - 1.0)).sum())


def _permutation(name: str, order: ArrayLike) -> NDArray[np.int64]:
    visited = np.asarray(order if isinstance(order, np.ndarray | Sequence) else list(order))  # type: ignore[arg-type]
    n = len(visited)
    if visited.ndim != 1 or n == 0 or not np.issubdtype(visited.dtype, np.integer):
        raise ConfigurationError(f"shuffle_quality: {name} must be a flat sequence of sample indices.")
    if visited.min() < 0 or visited.max() >= n or len(np.unique(visited)) != n:
        raise ConfigurationError(
            f"shuffle_quality: {name} is no permutation of 0 to {n - 1}: it goes from {visited.min()} to "
            f"{visited.max()} with {len(np.unique(visited))} different values. Pass one whole epoch of all ranks."
        )
    return visited.astype(np.int64)


def _aligned(name: str, values: ArrayLike, n: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ConfigurationError(f"shuffle_quality: {name} has shape {array.shape}; the order has {n} samples.")
    return array


def _finite(labels: NDArray[Any]) -> NDArray[np.float64]:
    try:
        values = labels.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"shuffle_quality: labels are of type {labels.dtype}; give a number for each sample.") from None
    bad = ~np.isfinite(values)
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"shuffle_quality: labels[{at}]={values[at]} is not finite ({int(bad.sum())} of {len(values)} are not). "
            f"Leave these samples out, or mend them."
        )
    return values
