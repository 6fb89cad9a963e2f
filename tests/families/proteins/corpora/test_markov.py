from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.corpora import HiddenMarkovCorpus, MarkovCorpus, amino_acid_frequencies
from stablelit.families.proteins.corpora.markov import coupled_transition
from tests.families.proteins.corpora.tiny import everything

TRANSITION = np.array([[0.8, 0.2, 0.0], [0.1, 0.3, 0.6], [0.5, 0.1, 0.4]])


@pytest.fixture(scope="module")
def chain():
    return MarkovCorpus(TRANSITION)


def test_the_probability_is_the_product_of_steps(chain):
    tokens = everything(5)
    expected = chain.start[tokens[:, 0]] * TRANSITION[tokens[:, :-1], tokens[:, 1:]].prod(axis=1)
    assert chain.log_prob(tokens).exp().numpy() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("length", [1, 2, 6, [1, 5, 5, 2]])
def test_the_closed_form_of_the_entropy_is_the_sum_over_sequences(chain, length):
    assert chain.entropy(length).value == pytest.approx(HiddenMarkovCorpus.entropy(chain, length).value, abs=1e-13)
    assert chain.entropy(length).standard_error == 0.0


def test_the_entropy_rate_is_what_a_residue_adds(chain):
    assert chain.entropy_rate().value == pytest.approx(7 * chain.entropy(7).value - 6 * chain.entropy(6).value)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.75, 1.0])
def test_the_closed_form_of_the_oracle_is_what_sampling_finds(chain, rate):
    value, error = HiddenMarkovCorpus.oracle_cross_entropy(chain, rate, 9, 3000, seed=3)
    assert chain.oracle_cross_entropy(rate, 9).value == pytest.approx(value, abs=4 * error + 1e-12)


@pytest.mark.parametrize("length", [1, 2, 12])
def test_the_integral_of_the_oracle_over_mask_rates_is_the_entropy(chain, length):
    nodes, weights = np.polynomial.legendre.leggauss(length + 1)
    oracle = [chain.oracle_cross_entropy((node + 1) / 2, length).value for node in nodes]
    assert weights / 2 @ oracle == pytest.approx(chain.entropy(length).value, abs=1e-12)


def test_amino_acids_keep_their_frequencies_and_gain_a_memory():
    corpus = MarkovCorpus()
    assert corpus.unigram() == pytest.approx(amino_acid_frequencies(), abs=1e-12)
    assert corpus.unigram_entropy() - corpus.entropy_rate().value > 0.5


def test_the_coupled_chain_is_reversible_and_without_strength_independent():
    law = np.array([0.5, 0.3, 0.2])
    transition = coupled_transition(law, 2.0, seed=1)
    flow = law[:, None] * transition
    assert flow == pytest.approx(flow.T, abs=1e-13)
    assert law @ transition == pytest.approx(law, abs=1e-13)
    assert coupled_transition(law, 0.0) == pytest.approx(np.tile(law, (3, 1)), abs=1e-13)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"law": [0.5, 0.5, 0.0]}, "never occurs"),
        ({"law": [0.5, 0.6]}, "sum"),
        ({"law": [0.5, 0.5], "strength": -1.0}, "strength=-1"),
        ({"law": [0.5, 0.5], "seed": 0.5}, "seed=0.5"),
    ],
)
def test_a_coupling_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        coupled_transition(**settings)
