"""Random numbers by block: a sample depends on its seed and its place, and not on how many are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stablelit.functional.schedules import check_count

BLOCK = 1024

Seed = int | np.random.Generator
Draw = Callable[[np.random.Generator], NDArray[np.generic]]


def draw_in_blocks(draw: Draw, count: int, seed: Seed, first: int, stream: int, owner: str) -> NDArray[np.generic]:
    """Samples `first` to ``first + count`` of an endless row of them.

    Args:
        draw: draws a block of `BLOCK` samples along the first axis.
        count: how many.
        seed: names the row; a generator draws one.
        first: the place of the first in the row.
        stream: tells rows of different quantities with one seed apart.
        owner: for messages.

    Raises:
        ConfigurationError: a count, seed or place that is negative or no integer.
    """
    check_count(owner, "count", count, 0)
    check_count(owner, "first", first, 0)
    seed = int(seed.integers(2**63)) if isinstance(seed, np.random.Generator) else check_count(owner, "seed", seed, 0)
    begin, end = first // BLOCK, max(-(-(first + count) // BLOCK), first // BLOCK + 1)
    blocks = [
        draw(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, block))))
        for block in range(begin, end)
    ]
    start = first - begin * BLOCK
    return np.concatenate(blocks)[start : start + count]
