"""Toy proteins of a law that is known exactly: three rungs from independent residues to motifs, and lengths.

>>> from stablelit.families.proteins.corpora import build_corpus
>>> build_corpus("motif_hmm").sample(3, length=8, seed=0).shape
(3, 8)
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
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
    },
)
