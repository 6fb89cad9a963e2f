"""What the trivial predictors of sequences know: the share of each residue, and how long sequences are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.families.proteins.alphabet import N_RESIDUES, UNKNOWN
from stablelit.families.proteins.sequences import Sequences

_AT_ONCE = 1 << 22


def residue_counts(sequences: Sequences, rows: NDArray[Any], most_residues: int = 100_000_000) -> NDArray[np.int64]:
    """How often each residue and `UNKNOWN` occur in some sequences, shape ``(21,)``.

    Args:
        sequences: where the residues lie.
        rows: which sequences, ascending.
        most_residues: where they have more, about so many are counted: of sequences spread evenly over `rows`.
    """
    lengths = sequences.lengths(rows)
    total = int(lengths.sum())
    if total > most_residues:
        rows = rows[np.arange(len(rows) * most_residues // total + 1) * total // most_residues % len(rows)]
        rows.sort()
        lengths = sequences.lengths(rows)
    counts = np.zeros(UNKNOWN + 1, dtype=np.int64)
    ends = np.cumsum(lengths)
    edges = [*np.searchsorted(ends, np.arange(0, int(ends[-1]), _AT_ONCE), side="left").tolist(), len(rows)]
    for first, last in pairwise(edges):
        here, length = rows[first:last], lengths[first:last]
        inside = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
        tokens = sequences.tokens[np.repeat(sequences.offsets[here], length) + inside]
        counts += np.bincount(tokens, minlength=len(counts))[: len(counts)]
    return counts


def unigram_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each of the 20 residues, shape ``(20,)``, as if each had been seen once more than it was.

    So that held-out sequences with a residue that training lacks have a finite likelihood.
    """
    seen = counts[:N_RESIDUES] + 1.0
    return np.asarray(seen / seen.sum())
