from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.alphabet import AMINO_ACIDS
from stablelit.families.proteins.corpora import MotifHMM, amino_acid_frequencies, build_corpus
from tests.families.proteins.corpora.tiny import everything, joint


def test_the_stationary_law_is_the_length_of_a_round():
    corpus = MotifHMM(["DEAD", "RGD", "HELGH"], weights=[0.5, 0.3, 0.2], rho=0.2)
    background = 1 / (1 + 0.2 * (0.5 * 4 + 0.3 * 3 + 0.2 * 5))
    chances = np.repeat([0.5, 0.3, 0.2], [4, 3, 5]) * 0.2 * background
    assert corpus.start == pytest.approx([background, *chances], abs=1e-14)


def test_the_figures_of_four_motifs_are_those_of_the_literature_of_this_project():
    # unigram 2.8306, entropy 2.2648, recorded from an independent prototype with 10,000 sequences
    corpus = build_corpus("motif_hmm")
    assert corpus.unigram_entropy() == pytest.approx(2.8306, abs=5e-5)
    value, error = corpus.entropy(64, 8192, seed=0)
    assert value == pytest.approx(2.2648, abs=3 * math.hypot(error, 0.002))


@pytest.mark.slow
def test_eight_motifs_hold_less():
    # prototype: unigram 2.8935, entropy 2.3944 +- 0.002 with two motifs that were not written down
    corpus = build_corpus("motif_hmm_8")
    assert corpus.unigram_entropy() == pytest.approx(2.8935, abs=1e-3)
    value, error = corpus.entropy(64, 8192, seed=0)
    assert value == pytest.approx(2.3944, abs=3 * math.hypot(error, 0.002))


def test_a_tiny_one_has_the_probabilities_of_all_its_paths():
    corpus = MotifHMM([[0, 1], [2]], weights=[0.7, 0.3], rho=0.4, epsilon=0.1, background=[0.2, 0.3, 0.5])
    tokens = everything(4)
    assert corpus.log_prob(tokens).exp().numpy() == pytest.approx(joint(corpus, tokens), abs=1e-15)


def test_motifs_stand_in_the_sequences_as_often_as_they_should():
    corpus = MotifHMM(["WWCWW"], rho=0.1, epsilon=0.0)
    text = ["".join(AMINO_ACIDS[c] for c in row) for row in corpus.sample(2000, 50, seed=0)]
    found = sum(line.count("WWCWW") for line in text) / (2000 * 46)
    assert found == pytest.approx(corpus.start[1], rel=0.05)


def test_a_part_of_a_motif_tells_of_the_rest():
    corpus = MotifHMM(["GKSGKT"], epsilon=0.02)
    tokens = np.array([[AMINO_ACIDS.index(c) for c in "ACGKSGKTAC"]])
    known = np.ones((1, 10), dtype=bool)
    known[0, 4] = False
    assert corpus.posterior(tokens, known)[0, 4, AMINO_ACIDS.index("S")] > 0.9


def test_without_noise_and_always_motifs_it_alternates():
    corpus = MotifHMM([[1]], rho=1.0, epsilon=0.0, background=[1.0, 0.0])
    drawn = corpus.sample(50, 6, seed=0)
    assert (drawn[:, :-1] + drawn[:, 1:] == 1).all()
    assert corpus.entropy(6).value == pytest.approx(math.log(2) / 6)


def test_letters_replaced_come_from_the_background():
    corpus = MotifHMM(["DEAD"], epsilon=1.0)
    assert corpus.unigram() == pytest.approx(amino_acid_frequencies(), abs=1e-14)
    assert corpus.entropy(3).value == pytest.approx(corpus.unigram_entropy(), abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"motifs": ["DEAX"]}, "motifs='DEAX'"),
        ({"motifs": ["dead"]}, "letters of ACDEFGHIKLMNPQRSTVWY"),
        ({"motifs": [""]}, "motifs=''"),
        ({"motifs": "DEAD"}, "in a list"),
        ({"motifs": []}, "one motif or more"),
        ({"motifs": [[0, 20]]}, "codes from 0 to 19"),
        ({"motifs": [[0.5]]}, "codes"),
        ({"motifs": [3]}, "codes"),
        ({"weights": [1.0]}, r"shape \(1,\). Allowed: \(4\)"),
        ({"weights": [0.5, 0.5, 0.5, 0.5]}, "sum"),
        ({"rho": 0.0}, "rho=0"),
        ({"rho": 1.5}, "rho=1.5"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"background": [0.5, 0.6]}, "background"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        MotifHMM(**settings)
