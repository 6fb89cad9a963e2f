"""Sequences that are open: where they lie, which of them are for what, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.families.proteins.corpora import HiddenMarkovCorpus
from stablelit.families.proteins.sequences import Sequences
from stablelit.families.proteins.splits import SPLITS, split_rows
from stablelit.families.proteins.statistics import residue_counts, unigram_of
from stablelit.families.proteins.told import say
from stablelit.families.proteins.toy_sequences import true_nll


@dataclass(frozen=True)
class OpenedSequences:
    """Sequences, split.

    Args:
        sequences: all of them.
        splits: rows of the sequences of each split, ascending.
        corpus: the law that toy sequences were drawn from; None for those of a file.
    """

    sequences: Sequences
    splits: dict[str, NDArray[Any]]
    corpus: HiddenMarkovCorpus | None

    @cached_property
    def unigram(self) -> NDArray[np.float64]:
        """Share of each residue, ``(20,)``; where there are more than 10^8 residues, about so many are counted."""
        if self.corpus is not None:
            return np.asarray(self.corpus.unigram(), dtype=np.float64)
        return unigram_of(residue_counts(self.sequences, self.splits["train"]))

    def nll(self, split: str) -> NDArray[np.float64] | None:
        """``-log p(x)`` of the sequences of a split under the toy law, nats, exactly, ``(n,)``; None without a law."""
        return None if self.corpus is None else true_nll(self.corpus, self.sequences, self.splits[split])

    def n_residues(self, split: str) -> int:
        """Residues of a split."""
        return int(self.sequences.lengths(self.splits[split]).sum())

    def identity(self) -> dict[str, Any]:
        """What data these are."""
        return {
            **self.sequences.identity(),
            "corpus": None if self.corpus is None else repr(self.corpus),
            "splits": {name: len(rows) for name, rows in self.splits.items()},
        }


def open_split(
    sequences: Sequences,
    corpus: HiddenMarkovCorpus | None,
    bucket_ranges: Mapping[str, tuple[int, int]],
    max_sequences: int | None,
) -> OpenedSequences:
    """Splits sequences, and says how.

    Args:
        sequences: all of them.
        corpus: their law, or None.
        bucket_ranges: of each split; see `splits`.
        max_sequences: of the training split, spread evenly over it; None is all.

    Raises:
        ConfigurationError: a split without a sequence.
    """
    splits = split_rows(sequences.buckets, bucket_ranges)
    n_train = len(splits["train"])
    if max_sequences is not None and max_sequences < n_train:
        splits["train"] = splits["train"][np.arange(max_sequences) * n_train // max_sequences]
    say(f"{', '.join(f'{len(splits[name])} {name}' for name in SPLITS)} sequences of {sequences.source}.")
    return OpenedSequences(sequences, splits, corpus)
