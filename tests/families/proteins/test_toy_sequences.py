from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins import toy_sequences as toys
from stablelit.families.proteins.corpora import IIDCorpus, LogNormalLengths, MotifHMM
from stablelit.families.proteins.toy_sequences import toy_law, toy_sequences, true_nll


def test_more_sequences_begin_with_the_same_ones():
    corpus = MotifHMM()
    few, many = (toy_sequences(corpus, "motif_hmm", n, 30, seed=4) for n in (1500, 5000))
    assert many.tokens[: len(few.tokens)].tolist() == few.tokens.tolist()
    assert many.buckets[:1500].tolist() == few.buckets.tolist()


def test_no_sequence_comes_twice(monkeypatch):
    monkeypatch.setattr(toys, "_DRAWN_TOGETHER", 1000)
    made = toy_sequences(IIDCorpus(), "iid", 2500, 30, seed=4)
    assert len(np.unique(made.tokens.reshape(2500, 30), axis=0)) == 2500


def test_sequences_of_a_law_of_lengths_have_its_lengths_and_the_residues_of_the_law():
    law = LogNormalLengths(median=20, longest=60)
    made = toy_sequences(IIDCorpus(), "iid", 3000, law, seed=1)
    assert np.diff(made.offsets).tolist() == law.sample(3000, 1).tolist()
    share = np.bincount(made.tokens, minlength=20) / len(made.tokens)
    assert np.abs(share - IIDCorpus().unigram()).max() < 0.006


def test_the_true_nll_of_independent_residues_is_a_sum_over_them(monkeypatch):
    monkeypatch.setattr(toys, "_DRAWN_TOGETHER", 7)
    corpus = IIDCorpus()
    made = toy_sequences(corpus, "iid", 20, LogNormalLengths(median=20, longest=60), seed=1)
    rows = np.arange(0, 20, 2)
    wanted = [-np.log(corpus.unigram()[made[row]]).sum() for row in rows]
    assert true_nll(corpus, made, rows) == pytest.approx(wanted)


def test_a_law_is_found_by_its_name_with_a_length_or_a_law_of_lengths():
    corpus, name, length = toy_law("markov", 30)
    assert (type(corpus).__name__, name, length) == ("MarkovCorpus", "markov", 30)
    assert toy_law(corpus, {"median": 100})[2].median == 100


@pytest.mark.parametrize(
    ("corpus", "length", "told"),
    [
        ("motif", 64, "motif_hmm"),
        (3, 64, "corpus=3"),
        ("iid", 0, "length=0"),
        ("iid", {"mean": 3}, "length="),
        ("iid", {"median": -3}, "median"),
        (IIDCorpus(np.full(21, 1 / 21)), 64, "at most 20 residues"),
    ],
)
def test_other_laws_and_lengths_are_refused(corpus, length, told):
    with pytest.raises(ConfigurationError, match=told):
        toy_law(corpus, length)
