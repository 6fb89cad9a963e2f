"""Toy proteins of a law that is known exactly: three rungs from independent residues to motifs, and lengths.

>>> from stablelit.families.proteins.corpora import build_corpus
>>> build_corpus("motif_hmm").sample(3, length=8, seed=0).shape
(3, 8)
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "CORPORA": "named",
    "Estimate": "estimate",
    "HiddenMarkovCorpus": "hidden_markov",
    "IIDCorpus": "iid",
    "LogNormalLengths": "lengths",
    "MarkovCorpus": "markov",
    "MotifHMM": "motif_hmm",
    "amino_acid_frequencies": "background",
    "build_corpus": "named",
    "coupled_transition": "markov",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
