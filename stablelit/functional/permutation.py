r"""Permutations of 0 .. n-1 that depend on a key alone, also where n numbers do not fit in memory.

Up to `EXACT_BELOW` a permutation is drawn exactly (Fisher-Yates) and kept as a table. Above, it is a *pseudorandom*
permutation: a Feistel network on pairs :math:`(l, r) \in Z_a \times Z_b`, :math:`ab \ge n`, every round of which is

.. math:: l \leftarrow (l + F_k(r)) \bmod a \qquad\text{or}\qquad r \leftarrow (r + F_k(l)) \bmod b ,

each undone by a subtraction, so that the whole is a bijection whatever F is. What falls outside 0 .. n-1 (less than one
in :math:`\sqrt n`) is encrypted again until it falls inside ("cycle walking"), which is a bijection of 0 .. n-1. Any
stretch of positions is computed by itself: memory and the first batch do not know n.

Sources: M. Luby and C. Rackoff, SIAM J. Comput. 17 (1988) 373; J. Black and P. Rogaway, CT-RSA 2002 (arbitrary finite
domains; the additive form and cycle walking).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from stablelit.errors import bad_argument

EXACT_BELOW = 2**20
ROUNDS = 6
_MOST = 2**62
_WORD = 0xFFFFFFFFFFFFFFFF

Indices = NDArray[np.signedinteger]


def mix(a: int, b: int) -> int:
    """A 63-bit key of two numbers; (a, b) and (a + 1, b - 1) have nothing in common (splitmix64's finalizer).

    torch's DistributedSampler adds seed and epoch instead, so that epoch 1 of seed 0 is epoch 0 of seed 1.

    Example:
        >>> mix(0, 1) == mix(1, 0)
        False
    """
    x = (a * 0x9E3779B97F4A7C15 + b * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) & _WORD
    return (x ^ (x >> 31)) >> 1


def exact_permutation(n: int, key: int) -> NDArray[np.int32]:
    """A uniformly drawn permutation of 0 .. n-1 (n < 2^31) from a generator of its own.

    It is `torch.randperm`'s, so that it lasts as long as torch draws in the same way.
    """
    generator = torch.Generator("cpu").manual_seed(key)
    # 32 bits: half the memory of the default, the same permutation; on the CPU whatever the default device is
    drawn = torch.randperm(n, generator=generator, dtype=torch.int32, device="cpu")
    table: NDArray[np.int32] = drawn.numpy()
    return table


def feistel(positions: Indices, n: int, key: int, rounds: int = ROUNDS) -> NDArray[np.int64]:
    """The images of `positions` under a keyed pseudorandom permutation of 0 .. n-1.

    Args:
        positions: ints in 0 .. n-1, shape (m,).
        n: size of the permuted set, 1 to 2^62.
        key: chooses the permutation; 63 bits.
        rounds: 6 cannot be told from an exact permutation from n = 10^5 on; below a few thousand it is not uniform.

    Returns:
        Ints in 0 .. n-1, shape (m,).

    Example:
        >>> sorted(feistel(np.arange(10), 10, key=3).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if not 1 <= n <= _MOST:
        raise bad_argument("feistel", "n", n, "1 to 2^62")
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    keys = [np.uint32(mix(key, i + 1) & 0xFFFFFFFF) for i in range(rounds)]
    out = _encrypt(np.asarray(positions, dtype=np.int64), a, b, keys)
    outside = np.flatnonzero(out >= n)
    while outside.size:
        out[outside] = _encrypt(out[outside], a, b, keys)
        outside = outside[out[outside] >= n]
    return out


def _encrypt(positions: NDArray[np.int64], a: int, b: int, keys: list[np.uint32]) -> NDArray[np.int64]:
    left64 = positions // b
    right = (positions - left64 * b).astype(np.uint32)
    left = left64.astype(np.uint32)
    for i, key in enumerate(keys):
        if i % 2 == 0:
            _add(left, right, a, key)
        else:
            _add(right, left, b, key)
    np.copyto(left64, left)
    left64 *= b
    left64 += right
    return left64


def _add(target: NDArray[np.uint32], source: NDArray[np.uint32], modulus: int, key: np.uint32) -> None:
    """``target = (target + F(source)) mod modulus`` in place, F the lowbias32 hash scaled to the modulus."""
    h = source ^ key
    t = h >> np.uint32(16)
    h ^= t
    h *= np.uint32(0x7FEB352D)
    np.right_shift(h, np.uint32(15), out=t)
    h ^= t
    h *= np.uint32(0x846CA68B)
    np.right_shift(h, np.uint32(16), out=t)
    h ^= t
    # multiply-shift: no division; its bias is modulus / 2^32
    wide = h.astype(np.uint64)
    wide *= np.uint64(modulus)
    wide >>= np.uint64(32)
    target += wide.astype(np.uint32)
    # x - modulus wraps to a huge number where x < modulus, so that the minimum is x mod modulus
    np.subtract(target, np.uint32(modulus), out=t)
    np.minimum(target, t, out=target)


class Permutation:
    """A permutation of 0 .. n-1 by key: exact up to `exact_below`, Feistel above.

    Example:
        >>> order = Permutation(5, key=1)
        >>> sorted(order(range(0, 5)).tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, key: int, exact_below: int = EXACT_BELOW) -> None:
        self.n, self.key = n, key
        self._table = exact_permutation(n, key) if n <= exact_below else None

    def __call__(self, positions: range) -> Indices:
        """Images of an ascending range of positions, shape (len(positions),)."""
        if self._table is not None:
            return self._table[positions.start : positions.stop : positions.step]
        return feistel(np.arange(positions.start, positions.stop, positions.step), self.n, self.key)


class BlockPermutation:
    """A permutation that visits chunks in a random order, a window of them mixed exactly at a time.

    The two-level shuffle of CorgiPile (Xu et al., arXiv:2206.05830): only `window_chunks` chunks need be in memory. The
    chunks of an epoch are dealt to windows of equal size (up to one), so that there is no short last window in which
    less is mixed; which chunks meet changes with the key.

    Args:
        sizes: samples in each chunk, all >= 1, shape (C,); chunk j holds the samples that follow those of chunk j-1.
        window_chunks: most chunks in a window.
        key: chooses the permutation.
        exact_below: windows of more samples than this are mixed by the Feistel network.
    """

    def __init__(self, sizes: NDArray[np.int64], window_chunks: int, key: int, exact_below: int = EXACT_BELOW) -> None:
        self.key, self.exact_below = key, exact_below
        n_chunks = len(sizes)
        n_windows = -(-n_chunks // window_chunks)
        # chunk_order[first_chunk[w] : first_chunk[w + 1]] are the chunks of window w
        self.chunk_order = Permutation(n_chunks, mix(key, 0), exact_below)(range(n_chunks))
        self.first_chunk = np.arange(n_windows + 1) * n_chunks // n_windows
        self._sizes = sizes[self.chunk_order]
        ends = np.concatenate([[0], np.cumsum(self._sizes)])
        self.window_ends = ends[self.first_chunk[1:]]
        # a sample's index is its place in the epoch's concatenated chunks plus its chunk's shift
        self._ends = ends[1:]
        self._shift = (np.cumsum(sizes) - sizes)[self.chunk_order] - ends[:-1]
        self._current: tuple[int, Permutation] | None = None

    def __call__(self, positions: range) -> Indices:
        """Images of an ascending range of positions, shape (len(positions),)."""
        parts = []
        while len(positions):
            window = int(np.searchsorted(self.window_ends, positions.start, side="right"))
            here = positions[: len(range(positions.start, int(self.window_ends[window]), positions.step))]
            parts.append(self._within(window, here))
            positions = positions[len(here) :]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, dtype=np.int64)])

    def _within(self, window: int, positions: range) -> Indices:
        begin = int(self.window_ends[window - 1]) if window else 0
        if self._current is None or self._current[0] != window:
            self._current = None  # never two tables at once
            size = int(self.window_ends[window]) - begin
            self._current = window, Permutation(size, mix(self.key, window + 1), self.exact_below)
        local = range(positions.start - begin, positions.stop - begin, positions.step)
        place = self._current[1](local).astype(np.int64) + begin
        first, last = int(self.first_chunk[window]), int(self.first_chunk[window + 1])
        chunk = first + np.searchsorted(self._ends[first:last], place, side="right")
        image: Indices = place + self._shift[chunk]
        return image

    def same_chunk_probability(self) -> float:
        r"""The chance that two samples of one batch share a chunk.

        .. math:: P = \frac1N \sum_w M_w \frac{\sum_{j \in w} c_j (c_j - 1)}{M_w (M_w - 1)}

        The sums go over windows w of :math:`M_w` samples and their chunks j of :math:`c_j` samples.
        """
        pairs = np.add.reduceat(self._sizes * (self._sizes - 1.0), self.first_chunk[:-1])
        samples = np.diff(self.window_ends, prepend=0).astype(float)
        chance = pairs / np.maximum(samples * (samples - 1.0), 1.0)
        return float((samples * chance).sum() / samples.sum())
