"""Which sequences are for training, validation and test: by a stable number of each, so that new data move none.

Every sequence has a bucket 0 to 9,999 that depends on its id alone. Training takes the lowest buckets, test the
highest, validation those below test: a sequence is on the same side in every release of a database, whatever else is
added, and a larger share takes in what a smaller one had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError
from stablelit.functional.schedules import check_number

SPLITS = ("train", "val", "test")
N_BUCKETS = 10_000
_OWNER = "ProteinDataModule"
# 1 / golden ratio: of all multiples, these leave the fewest gaps (Weyl; Knuth, TAOCP 6.4)
_GOLDEN = 0.6180339887498949


def id_hashes(ids: Sequence[bytes]) -> NDArray[np.uint64]:
    """BLAKE2b of each id, 8 bytes (little-endian) as a number, shape ``(n,)``; the same on every machine.

    Example:
        >>> int(id_hashes([b"UniRef50_Q9K794"])[0] % 10_000)
        338
    """
    blake2b = hashlib.blake2b
    return np.frombuffer(b"".join([blake2b(i, digest_size=8).digest() for i in ids]), dtype="<u8")


def buckets_of_ids(ids: Sequence[bytes]) -> NDArray[np.uint16]:
    """The bucket of each id: its hash modulo `N_BUCKETS`, shape ``(n,)``."""
    return (id_hashes(ids) % np.uint64(N_BUCKETS)).astype(np.uint16)


def buckets_of_numbers(n: int) -> NDArray[np.uint16]:
    """Buckets of sequences that are exchangeable and have no id, by their numbers 0 to n-1, shape ``(n,)``.

    The fractional parts of multiples of the golden ratio: any first n of them fill the buckets evenly, so that shares
    hold to a sequence or two, and more sequences move none.
    """
    return (np.modf(np.arange(1, n + 1) * _GOLDEN)[0] * N_BUCKETS).astype(np.uint16)


def check_shares(shares: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """The buckets of each split, from the first to before the last.

    Raises:
        ConfigurationError: a share that is not a number in (0, 1], or shares that add up to more than 1.
    """
    for name, share in shares.items():
        check_number(_OWNER, name, share, above=0.0, at_most=1.0)
    if (total := sum(shares.values())) > 1 + 1e-9:
        raise ConfigurationError(
            f"{_OWNER}: train, val and test are shares that add up to {total:g}. Allowed: at most 1."
        )
    counts = {name: round(share * N_BUCKETS) for name, share in shares.items()}
    for name, count in counts.items():
        if count < 1:
            raise ConfigurationError(f"{_OWNER}: {name}={shares[name]:g} is less than 1/{N_BUCKETS}. Allowed: more.")
    first_test = N_BUCKETS - counts["test"]
    first_val = first_test - counts["val"]
    # each of three shares may have been rounded up
    last_train = min(counts["train"], first_val)
    return {"train": (0, last_train), "val": (first_val, first_test), "test": (first_test, N_BUCKETS)}


def split_rows(buckets: NDArray[np.uint16], ranges: Mapping[str, tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Which sequences are in each split, ascending; int32 where that holds them.

    Args:
        buckets: of all sequences, shape ``(n,)``.
        ranges: of buckets, from `check_shares`.

    Raises:
        ConfigurationError: a split without a sequence.
    """
    kind = np.int32 if len(buckets) < 2**31 else np.int64
    rows = {
        name: np.flatnonzero((buckets >= first) & (buckets < last)).astype(kind)
        for name, (first, last) in ranges.items()
    }
    for name, (first, last) in ranges.items():
        if not len(rows[name]):
            raise ConfigurationError(
                f"{_OWNER}: {name}={(last - first) / N_BUCKETS:g} of {len(buckets)} sequences leaves the split without "
                f"one (they are split by a hash of their ids). Raise the share, or give more sequences."
            )
    return rows
