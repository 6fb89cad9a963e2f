from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.corpora import CORPORA, build_corpus


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_has_twenty_residues_and_less_entropy_than_its_unigram(name):
    corpus = build_corpus(name)
    assert corpus.sample(2, 5, seed=0).shape == (2, 5)
    assert corpus.n_residues == 20
    assert corpus.entropy(64, 256).value <= corpus.unigram_entropy() + 1e-12


def test_settings_reach_the_class():
    assert build_corpus("motif_hmm_8", epsilon=0.2).epsilon == 0.2
    assert len(build_corpus("motif_hmm_8").motifs) == 8


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("motif-hmm", {}, "Did you mean 'motif_hmm'"),
        ("motif_hmm", {"epsilom": 0.1}, "epsilom"),
        ("markov", {"rho": 0.1}, "rho"),
        ("iid", {"law": [0.5]}, "sum"),
    ],
)
def test_what_is_not_there_is_refused_by_name(name, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        build_corpus(name, **settings)
