"""LogNormalLengths: how long proteins are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import bad_argument
from stablelit.families.proteins.corpora.streams import BLOCK, Seed, draw_in_blocks
from stablelit.functional.schedules import check_count, check_number

_STREAM = 1


class LogNormalLengths:
    """``round(exp(N(ln median, spread^2)))``, clipped to what is allowed.

    Args:
        median: residues.
        spread: standard deviation of ln L; 0 makes all alike. The default is a round number for proteins of all kinds
            (the mean is then 1.32 times the median), not a fit.
        shortest: residues; UniRef has none below 11.
        longest: residues.

    Raises:
        ConfigurationError: an argument out of range, or a longest below the shortest.
    """

    def __init__(self, median: float = 270.0, spread: float = 0.75, shortest: int = 11, longest: int = 2048) -> None:
        owner = type(self).__name__
        self.median = check_number(owner, "median", median, at_least=1.0)
        self.spread = check_number(owner, "spread", spread, at_least=0.0, at_most=5.0)
        self.shortest = check_count(owner, "shortest", shortest, 1)
        self.longest = check_count(owner, "longest", longest, 1)
        if self.longest < self.shortest:
            raise bad_argument(owner, "longest", longest, f"at least shortest={shortest}")

    def __repr__(self) -> str:
        return f"LogNormalLengths(median={self.median:g}, spread={self.spread:g})"

    def sample(self, count: int, seed: Seed = 0, first: int = 0) -> NDArray[np.int64]:
        """Lengths ``(count,)``: each depends on the seed and its place alone (see `HiddenMarkovCorpus.sample`)."""

        def draw(rng: np.random.Generator) -> NDArray[np.int64]:
            exact = np.exp(math.log(self.median) + self.spread * rng.standard_normal(BLOCK))
            return np.clip(np.rint(exact), self.shortest, self.longest).astype(np.int64)

        return draw_in_blocks(draw, count, seed, first, _STREAM, type(self).__name__)
