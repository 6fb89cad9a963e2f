from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins.corpora import HiddenMarkovCorpus, IIDCorpus


def test_every_figure_is_the_unigram_entropy():
    corpus = IIDCorpus([0.5, 0.25, 0.25])
    expected = 1.5 * np.log(2)
    assert corpus.unigram_entropy() == pytest.approx(expected)
    for estimate in (corpus.entropy(64), corpus.entropy_rate(), corpus.oracle_cross_entropy(0.3, 64)):
        assert estimate == (pytest.approx(expected), 0.0)
    assert HiddenMarkovCorpus.entropy(corpus, 5).value == pytest.approx(expected)
    assert HiddenMarkovCorpus.oracle_cross_entropy(corpus, 0.3, 5, 20) == pytest.approx((expected, 0.0), abs=1e-12)


def test_the_probability_is_the_product_of_frequencies():
    corpus = IIDCorpus()
    tokens = corpus.sample(50, 30, seed=1)
    expected = np.log(corpus.unigram())[tokens].sum(axis=1)
    assert corpus.log_prob(tokens).numpy() == pytest.approx(expected)


def test_what_is_known_says_nothing_of_what_is_masked():
    corpus = IIDCorpus()
    tokens = corpus.sample(4, 10, seed=1)
    law = corpus.conditional(tokens, np.random.default_rng(0).random(tokens.shape) < 0.5).numpy()
    assert law == pytest.approx(np.broadcast_to(corpus.unigram(), law.shape), abs=1e-14)
