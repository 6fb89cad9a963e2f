"""IIDCorpus: residues that know nothing of each other, the rung where the frequencies are all there is to learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stablelit.families.proteins.corpora.background import amino_acid_frequencies
from stablelit.families.proteins.corpora.estimate import Estimate
from stablelit.families.proteins.corpora.hidden_markov import HiddenMarkovCorpus
from stablelit.families.proteins.corpora.streams import Seed


class IIDCorpus(HiddenMarkovCorpus):
    """``p(x) = prod_i u(x_i)``: every bound and every cross entropy, at any mask rate, is the unigram entropy.

    Args:
        law: u, ``(N,)``; None: that of amino acids in nature.

    Raises:
        ConfigurationError: no law.
    """

    def __init__(self, law: ArrayLike | None = None) -> None:
        frequencies = amino_acid_frequencies() if law is None else np.asarray(law)
        super().__init__([[1.0]], frequencies[None])

    def entropy(self, lengths: int | ArrayLike, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """``H(u)``, exactly, whatever the length."""
        return Estimate(self.unigram_entropy())

    def entropy_rate(self, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """``H(u)``, exactly."""
        return Estimate(self.unigram_entropy())

    def oracle_cross_entropy(self, mask_rate: float, length: int, n_samples: int = 1024, seed: Seed = 0) -> Estimate:
        """``H(u)``, exactly, at any mask rate."""
        return Estimate(self.unigram_entropy())
