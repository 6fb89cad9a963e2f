"""TOY sequences of a corpus whose law is known, in the form in which prepared ones lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.families.proteins.corpora import CORPORA, HiddenMarkovCorpus, LogNormalLengths, build_corpus
from stablelit.families.proteins.sequences import Sequences
from stablelit.families.proteins.splits import buckets_of_numbers
from stablelit.functional.schedules import check_count

_OWNER = "ProteinDataModule"
_DRAWN_TOGETHER = 4096


def toy_law(
    corpus: str | HiddenMarkovCorpus, length: int | Mapping[str, Any]
) -> tuple[HiddenMarkovCorpus, str, int | LogNormalLengths]:
    """The corpus, its name, and the length of its sequences or the law of their lengths.

    Args:
        corpus: a name among `CORPORA`, or a corpus.
        length: a number, or the arguments of `LogNormalLengths`.

    Raises:
        ConfigurationError: another corpus, or a length that is not allowed.
    """
    if isinstance(length, Mapping):
        try:
            law: int | LogNormalLengths = LogNormalLengths(**{str(key): value for key, value in length.items()})
        except TypeError as error:
            allowed = "an int, or median, spread, shortest and longest of a log-normal law"
            raise bad_argument(_OWNER, "length", dict(length), f"{allowed} ({error})") from error
    else:
        law = check_count(_OWNER, "length", length, 1)
    if isinstance(corpus, str):
        return build_corpus(corpus), corpus, law
    if not isinstance(corpus, HiddenMarkovCorpus) or corpus.n_residues > N_RESIDUES:
        allowed = f"{', '.join(CORPORA)}, or an object of corpora of at most {N_RESIDUES} residues"
        raise bad_argument(_OWNER, "corpus", corpus, allowed)
    return corpus, type(corpus).__name__, law


def toy_sequences(
    corpus: HiddenMarkovCorpus, name: str, count: int, length: int | LogNormalLengths, seed: int
) -> Sequences:
    """Draws sequences; those of a larger `count` begin with the same ones.

    Args:
        corpus: their law.
        name: of the corpus, for messages.
        count: how many.
        length: of each, or a law of lengths.
        seed: of the draws.
    """
    lengths = np.full(count, length) if isinstance(length, int) else length.sample(count, seed)
    tokens = []
    for first in range(0, count, _DRAWN_TOGETHER):
        here = lengths[first : first + _DRAWN_TOGETHER]
        # cut from sequences of one length: a prefix of a sequence is a sequence of the same law
        drawn = corpus.sample(len(here), int(here.max()), seed, first)
        tokens.append(drawn[np.arange(drawn.shape[1]) < here[:, None]])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(np.concatenate(tokens), offsets, buckets_of_numbers(count), f"TOY sequences ({name})")


def true_nll(corpus: HiddenMarkovCorpus, sequences: Sequences, rows: NDArray[Any]) -> NDArray[np.float64]:
    """``-log p(x)`` of whole sequences, nats, exactly, shape ``(n,)``."""
    nll = []
    for first in range(0, len(rows), _DRAWN_TOGETHER):
        here = rows[first : first + _DRAWN_TOGETHER]
        length = sequences.lengths(here)
        padded = sequences.windows(here, np.zeros_like(length), length, int(length.max()))
        nll.append(-corpus.log_prob(torch.from_numpy(padded.astype(np.int64)), torch.from_numpy(length)).numpy())
    return np.concatenate(nll)


def check_subset_curriculum(owner: str, known: bool, leaves_out: bool) -> None:
    """Raises where a curriculum over the likeliest sequences first cannot be.

    Args:
        owner: who asks, for the message.
        known: whether the sequences are toy ones, whose probability is known, of one length.
        leaves_out: whether some of them are left out.

    Raises:
        ConfigurationError: their probability is not known, or some are left out.
    """
    if not known:
        raise ConfigurationError(
            f"{owner}: subset_curriculum needs toy sequences (whose probability is known) of one length. Leave path "
            f"out and give length an int, or use length_curriculum."
        )
    if leaves_out:
        raise ConfigurationError(
            f"{owner}: subset_curriculum draws sequences in place of others and leave_out takes some away. Give one of "
            f"the two."
        )
