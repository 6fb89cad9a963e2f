"""Where a long sequence is cut: at random in training, in equal pieces in evaluation."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stablelit.functional.permutation import mix

Crop = Literal["random", "tile", "first"]


def random_first(free: NDArray[np.int64], ids: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Where the window of each sequence begins: uniform on 0 to `free`, both included.

    A function of seed, epoch and id alone (splitmix64's finalizer on a counter): the same in every worker, on every
    rank, in any batch and after a resume.

    Args:
        free: residues that are left outside the window, shape ``(B,)``.
        ids: of the sequences, shape ``(B,)``.
        seed: of the order of training.
        epoch: of training.

    Returns:
        Places, shape ``(B,)``.
    """
    x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(mix(seed, epoch))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    # multiply-shift: no division, and a bias of free / 2^32
    return (((x >> np.uint64(32)) * (free.astype(np.uint64) + np.uint64(1))) >> np.uint64(32)).astype(np.int64)


def tiles(
    lengths: NDArray[np.int64], max_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Windows that have every residue once: as few as there can be, and of a sequence equal to a residue.

    Args:
        lengths: of the sequences, shape ``(N,)``.
        max_length: of a window.

    Returns:
        Of each window the place of its sequence, its number in the sequence, its first residue and its length, each
        of shape ``(W,)``.

    Example:
        >>> [part.tolist() for part in tiles(np.array([3, 10]), max_length=4)]
        [[0, 1, 1, 1], [0, 0, 1, 2], [0, 0, 3, 6], [3, 3, 3, 4]]
    """
    count = -(-lengths // max_length)
    sequence = np.repeat(np.arange(len(lengths)), count)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(count) - count, count)
    first = lengths[sequence] * number // count[sequence]
    last = lengths[sequence] * (number + 1) // count[sequence]
    return sequence, number, first, last - first
