"""Corpora by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.proteins.corpora.hidden_markov import HiddenMarkovCorpus
from stablelit.families.proteins.corpora.iid import IIDCorpus
from stablelit.families.proteins.corpora.markov import MarkovCorpus
from stablelit.families.proteins.corpora.motif_hmm import EIGHT_MOTIFS, FOUR_MOTIFS, MotifHMM

CORPORA: dict[str, Callable[..., HiddenMarkovCorpus]] = {
    "motif_hmm": lambda motifs=FOUR_MOTIFS, **settings: MotifHMM(motifs, **settings),
    "motif_hmm_8": lambda motifs=EIGHT_MOTIFS, **settings: MotifHMM(motifs, **settings),
    "markov": MarkovCorpus,
    "iid": IIDCorpus,
}


def build_corpus(name: str, **settings: Any) -> HiddenMarkovCorpus:
    """The corpus of that name.

    Args:
        name: motif_hmm (four motifs), motif_hmm_8, markov or iid.
        **settings: arguments of its class.

    Raises:
        ConfigurationError: no such corpus, an argument that it does not have, or one out of range.
    """
    if name not in CORPORA:
        raise bad_argument("build_corpus", "name", name, ", ".join(CORPORA), did_you_mean(str(name), CORPORA))
    try:
        return CORPORA[name](**settings)
    except TypeError as error:
        raise bad_argument("build_corpus", "settings", settings, f"arguments of {name!r} ({error})") from error
