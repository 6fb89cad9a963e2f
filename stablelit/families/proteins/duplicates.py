"""Ids that occur more than once, among more than fit in memory as text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHARE = 1 << 22


def count_duplicates(hashes: NDArray[np.uint64]) -> tuple[int, tuple[int, int] | None]:
    """How many records have the id of an earlier one, and the places of one such pair.

    Sorted a share at a time, by the hashes' highest bits: memory holds some 4 million of them. Two ids with one hash of
    64 bits are taken for the same; among 60 million that has a chance of 1 in 10,000.

    Args:
        hashes: of the ids, shape ``(n,)``; may be memory-mapped.
    """
    n_shares = 1 << max(0, (len(hashes) - 1).bit_length() - _SHARE.bit_length() + 1)
    shift = np.uint64(64 - n_shares.bit_length() + 1)
    count, pair = 0, None
    for share in range(n_shares):
        mine = _of_share(hashes, share, n_shares, shift)
        mine.sort()
        again = np.flatnonzero(mine[1:] == mine[:-1])
        count += len(again)
        if pair is None and len(again):
            pair = _first_two(hashes, mine[again[0]])
    return count, pair


def _of_share(hashes: NDArray[np.uint64], share: int, n_shares: int, shift: np.uint64) -> NDArray[np.uint64]:
    if n_shares == 1:
        return np.array(hashes)
    parts = []
    for first in range(0, len(hashes), _SHARE):
        part = np.asarray(hashes[first : first + _SHARE])
        parts.append(part[(part >> shift) == share])
    return np.concatenate(parts)


def _first_two(hashes: NDArray[np.uint64], value: np.uint64) -> tuple[int, int]:
    found: list[int] = []
    for first in range(0, len(hashes), _SHARE):
        found += (first + np.flatnonzero(hashes[first : first + _SHARE] == value)).tolist()
        if len(found) > 1:
            break
    return found[0], found[1]
