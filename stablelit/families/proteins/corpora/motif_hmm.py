"""MotifHMM: motifs scattered over a background, the rung where what matters is far apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stablelit.errors import bad_argument
from stablelit.families.proteins.alphabet import AMINO_ACIDS
from stablelit.families.proteins.corpora.background import amino_acid_frequencies
from stablelit.families.proteins.corpora.chain import checked_law
from stablelit.families.proteins.corpora.hidden_markov import HiddenMarkovCorpus
from stablelit.functional.schedules import check_number

# P-loop of ATPases, zinc site of metalloproteases, box of helicases, a glycosylation site in its surroundings
FOUR_MOTIFS = ("GKSGKT", "HELGH", "DEAD", "NWTKLAG")
# and: cell attachment, active site of glutaredoxins, sorting signal of sortases, NPxxY of rhodopsin-like receptors
EIGHT_MOTIFS = (*FOUR_MOTIFS, "RGD", "CPYC", "LPETG", "NPVIY")


class MotifHMM(HiddenMarkovCorpus):
    """A background of independent residues from which a motif begins with probability rho, and to which it returns.

    State 0 is the background b; motif m with weight w_m is a chain of one state a letter, from which a letter comes
    with probability 1 - epsilon and a residue of the background else::

        T(0, 0) = 1 - rho,  T(0, first of m) = rho w_m,  T(j, j + 1) = 1 inside a motif,  T(last of m, 0) = 1
        E(0, a) = b(a),     E(letter c, a) = (1 - epsilon) [a = c] + epsilon b(a)

    and the stationary law has ``pi(0) = 1 / (1 + rho sum_m w_m len_m)`` and ``pi(0) rho w_m`` at each letter of m.
    With the defaults and sequences of 64: entropy 2.263, unigram entropy 2.8306 nats a residue.

    Args:
        motifs: words of the alphabet, or rows of codes.
        weights: w, one for each motif, summing to 1; None: all alike.
        rho: in (0, 1]: the chance of a motif after a residue of the background.
        epsilon: in [0, 1]: the chance that a letter of a motif is replaced.
        background: b, ``(N,)``; None: the amino acids' frequencies.

    Raises:
        ConfigurationError: an argument out of range, or a motif with a letter that is none.
    """

    def __init__(
        self,
        motifs: Sequence[str] | Sequence[Sequence[int]] = FOUR_MOTIFS,
        weights: ArrayLike | None = None,
        rho: float = 0.12,
        epsilon: float = 0.08,
        background: ArrayLike | None = None,
    ) -> None:
        owner = type(self).__name__
        law = checked_law(owner, "background", amino_acid_frequencies() if background is None else background, (None,))
        if isinstance(motifs, str) or not isinstance(motifs, Sequence) or len(motifs) == 0:
            raise bad_argument(owner, "motifs", motifs, "one motif or more, in a list")
        self.motifs = tuple(_codes_of(motif, len(law)) for motif in motifs)
        share = np.full(len(motifs), 1.0 / len(motifs)) if weights is None else weights
        self.weights = checked_law(owner, "weights", share, (len(motifs),))
        self.rho = check_number(owner, "rho", rho, above=0.0, at_most=1.0)
        self.epsilon = check_number(owner, "epsilon", epsilon, at_least=0.0, at_most=1.0)
        super().__init__(*self._tables_of_motifs(law))

    def __repr__(self) -> str:
        return f"MotifHMM(motifs={len(self.motifs)}, rho={self.rho:g}, epsilon={self.epsilon:g})"

    def _tables_of_motifs(self, law: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        background = np.asarray(law)
        letters = np.concatenate(self.motifs)
        size = 1 + len(letters)
        ends = np.cumsum([len(motif) for motif in self.motifs])
        starts = np.concatenate([[1], ends[:-1] + 1])
        transition, emission = np.zeros((size, size)), np.zeros((size, len(background)))
        transition[0, 0] = 1.0 - self.rho
        transition[0, starts] = self.rho * self.weights
        inside = np.setdiff1d(np.arange(1, size), ends)
        transition[inside, inside + 1] = 1.0
        transition[ends, 0] = 1.0
        emission[0] = background
        emission[1:] = self.epsilon * background
        emission[np.arange(1, size), letters] += 1.0 - self.epsilon
        return transition, emission


def _codes_of(motif: str | Sequence[int], n_residues: int) -> np.ndarray:
    allowed = f"letters of {AMINO_ACIDS}, or codes from 0 to {n_residues - 1}"
    if not isinstance(motif, Sequence | np.ndarray):
        raise bad_argument("MotifHMM", "motifs", motif, allowed)
    codes = [AMINO_ACIDS.find(letter) for letter in motif] if isinstance(motif, str) else list(motif)
    if not codes or any(isinstance(c, bool) or not isinstance(c, int | np.integer) for c in codes):
        raise bad_argument("MotifHMM", "motifs", motif, allowed)
    if min(codes) < 0 or max(codes) >= n_residues:
        raise bad_argument("MotifHMM", "motifs", motif, allowed)
    return np.array(codes, dtype=np.int64)
