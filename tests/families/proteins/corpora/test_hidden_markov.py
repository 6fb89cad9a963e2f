from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.corpora import HiddenMarkovCorpus, MotifHMM, build_corpus
from tests.families.proteins.corpora.tiny import EMISSION, LENGTH, TRANSITION, N, conditional_by_sums, everything, joint
from tests.families.proteins.corpora.tiny import tiny as make

PAD = 7
MASKS = list(itertools.product([False, True], repeat=LENGTH))


@pytest.fixture(scope="module")
def tiny():
    return make()


@pytest.fixture(scope="module")
def table(tiny):
    tokens = everything()
    return tokens, joint(tiny, tokens)


def test_the_probabilities_of_all_sequences_sum_to_one_and_are_sums_over_paths(tiny, table):
    tokens, p = table
    log_prob = tiny.log_prob(tokens)
    assert log_prob.dtype == torch.float64
    assert log_prob.exp().sum() == pytest.approx(1.0, abs=1e-14)
    assert log_prob.exp().numpy() == pytest.approx(p, abs=1e-15)


@pytest.mark.parametrize("known", MASKS)
def test_conditional_posterior_and_marginal_equal_sums_over_the_table(tiny, table, known):
    tokens, p = table
    known = np.array(known)
    masks = np.tile(known, (len(tokens), 1))
    conditional = tiny.conditional(tokens, masks).numpy()
    posterior = tiny.posterior(tokens, torch.from_numpy(masks)).numpy()
    marginal = tiny.log_prob(tokens, known=masks).exp().numpy()
    for k, row in enumerate(tokens):
        assert marginal[k] == pytest.approx(p[(tokens[:, known] == row[known]).all(axis=1)].sum(), abs=1e-14)
        for i in range(LENGTH):
            expected = conditional_by_sums(p, tokens, row, known, i)
            assert conditional[k, i] == pytest.approx(expected, abs=1e-13)
            assert posterior[k, i] == pytest.approx(np.eye(N)[row[i]] if known[i] else expected, abs=1e-13)


def test_what_stands_at_a_masked_place_is_not_looked_at(tiny):
    tokens = torch.tensor([[0, 1, 2, 0]])
    known = torch.tensor([[True, False, True, False]])
    other = torch.tensor([[0, 99, 2, -1]])
    assert torch.equal(tiny.posterior(tokens, known), tiny.posterior(other, known))


def test_padding_changes_nothing(tiny):
    rng = np.random.default_rng(1)
    lengths = np.array([1, 3, 6, 4])
    tokens = tiny.sample(4, 6, seed=3).astype(np.int64)
    padded = np.where(np.arange(6) < lengths[:, None], tokens, PAD)
    known = rng.random(padded.shape) < 0.5
    log_prob, law = tiny.log_prob(padded, lengths), tiny.posterior(padded, known, lengths)
    for row, n in enumerate(lengths):
        assert log_prob[row] == pytest.approx(float(tiny.log_prob(tokens[row : row + 1, :n])), abs=1e-13)
        alone = tiny.posterior(tokens[row : row + 1, :n], known[row : row + 1, :n])[0]
        assert law[row, :n].numpy() == pytest.approx(alone.numpy(), abs=1e-13)
    assert torch.isfinite(law).all()


def test_a_batch_that_is_cut_into_parts_gives_the_same(tiny, monkeypatch):
    tokens = tiny.sample(37, 9, seed=2)
    known = np.random.default_rng(0).random(tokens.shape) < 0.5
    whole = tiny.log_prob(tokens), tiny.conditional(tokens, known), tiny.entropy(20, 37)
    monkeypatch.setattr("stablelit.families.proteins.corpora.recursions._MOST_NUMBERS", 5 * 9 * 6)
    assert torch.allclose(whole[0], tiny.log_prob(tokens), rtol=0, atol=1e-12)
    assert torch.allclose(whole[1], tiny.conditional(tokens, known), rtol=0, atol=1e-13)
    assert whole[2] == pytest.approx(tiny.entropy(20, 37), abs=1e-14)


@pytest.mark.slow
def test_long_sequences_do_not_underflow():
    corpus = build_corpus("motif_hmm")
    tokens = corpus.sample(2, 4000, seed=0)
    per_residue = -corpus.log_prob(tokens) / 4000
    assert ((per_residue > 2.1) & (per_residue < 2.4)).all()
    assert torch.isfinite(corpus.conditional(tokens)).all()


def test_the_chain_starts_in_the_law_that_a_step_leaves_as_it_is(tiny):
    assert tiny.start @ tiny.transition == pytest.approx(tiny.start, abs=1e-14)
    assert tiny.start == pytest.approx(np.linalg.matrix_power(TRANSITION, 200)[0], abs=1e-12)


def chi_square(counts, law):
    expected = counts.sum() * law
    used = expected > 0
    assert counts[~used].sum() == 0, "what cannot occur has occurred"
    degrees = used.sum() - 1
    return ((counts - expected)[used] ** 2 / expected[used]).sum(), degrees + 5 * math.sqrt(2 * degrees)


def test_sampled_sequences_have_the_frequencies_of_their_probabilities(tiny, table):
    tokens, p = table
    drawn = tiny.sample(20_000, LENGTH, seed=11).astype(np.int64)
    counts = np.bincount(drawn @ N ** np.arange(LENGTH)[::-1], minlength=len(p))
    statistic, most = chi_square(counts, p)
    assert statistic < most


def test_all_positions_have_the_same_frequencies():
    corpus = build_corpus("motif_hmm")
    drawn = corpus.sample(20_000, 40, seed=4)
    for position in (0, 1, 2, 7, 39):
        statistic, most = chi_square(np.bincount(drawn[:, position], minlength=20), corpus.unigram())
        assert statistic < most, position


def test_paths_are_those_of_the_sequences(tiny):
    states, tokens = tiny.sample_paths(5000, 6, seed=2)
    assert np.array_equal(tokens, tiny.sample(5000, 6, seed=2))
    steps = np.zeros((3, 3))
    np.add.at(steps, (states[:, :-1].ravel(), states[:, 1:].ravel()), 1)
    assert not steps[TRANSITION == 0].any()
    assert steps / steps.sum(1, keepdims=True) == pytest.approx(TRANSITION, abs=0.02)
    assert not ((states == 1) & (tokens == 0)).any()


def test_a_sequence_depends_on_its_seed_and_place_alone(tiny):
    many = tiny.sample(3000, 7, seed=5)
    assert np.array_equal(many[:10], tiny.sample(10, 7, seed=5))
    assert np.array_equal(many[1000:2100], tiny.sample(1100, 7, seed=5, first=1000))
    assert np.array_equal(many[:50, :4], tiny.sample(50, 4, seed=5)), "a longer sequence begins as a shorter one"
    assert not np.array_equal(many[:1000], tiny.sample(1000, 7, seed=6))
    assert tiny.sample(0, 7, seed=5).shape == (0, 7)
    assert np.array_equal(
        tiny.sample(9, 7, seed=np.random.default_rng(3)), tiny.sample(9, 7, seed=np.random.default_rng(3))
    )


def test_the_entropy_of_a_tiny_corpus_is_exact(tiny, table):
    _, p = table
    expected = -(p[p > 0] * np.log(p[p > 0])).sum() / LENGTH
    assert tiny.entropy(LENGTH) == pytest.approx((expected, 0.0), abs=1e-13)


def test_the_entropy_of_unequal_lengths_is_that_of_all_residues(tiny):
    whole = {n: tiny.entropy(n).value * n for n in (1, 2, 4)}
    expected = (whole[1] + 2 * whole[2] + whole[4]) / (1 + 4 + 4)
    assert tiny.entropy([2, 1, 4, 2]).value == pytest.approx(expected, abs=1e-13)


def test_the_estimated_entropy_is_right_within_its_error(tiny, monkeypatch):
    exact = tiny.entropy([2, 3, 6]).value
    monkeypatch.setattr("stablelit.families.proteins.corpora.hidden_markov._MOST_ENUMERATED", 0)
    value, error = tiny.entropy([2, 3, 6], 2000, seed=1)
    assert 0 < error < 0.01
    assert value == pytest.approx(exact, abs=4 * error)


@pytest.mark.slow
def test_the_estimated_entropy_agrees_with_the_mean_surprise_and_has_the_smaller_error():
    corpus = build_corpus("motif_hmm")
    surprise = -corpus.log_prob(corpus.sample(4000, 64, seed=8)).numpy() / 64
    error = surprise.std() / math.sqrt(4000)
    value, smaller = corpus.entropy(64, 4000, seed=9)
    assert value == pytest.approx(surprise.mean(), abs=4 * math.hypot(error, smaller))
    assert smaller < 0.8 * error


@pytest.mark.slow
def test_the_entropy_rate_lies_between_what_cover_and_thomas_allow(tiny):
    # theorem 4.5.1: H(x_n | x_1.., s_1) <= rate <= H(x_n | x_1..); the lower side from one chain for each first state
    upper = 9 * tiny.entropy(9).value - 8 * tiny.entropy(8).value
    lower = 0.0
    for state, weight in enumerate(tiny.start):
        fixed = HiddenMarkovCorpus(TRANSITION, EMISSION)
        fixed.start = np.eye(3)[state]
        lower += weight * (9 * fixed.entropy(9).value - 8 * fixed.entropy(8).value)
    rate, error = tiny.entropy_rate(500)
    assert lower < upper
    assert lower - 4 * error < rate < upper + 4 * error


def exact_masked(tiny, table, rate):
    """The expected surprise of a masked residue by sums over sequences and masks."""
    tokens, p = table
    total = 0.0
    for known in MASKS:
        known = np.array(known)
        chance = rate ** (~known).sum() * (1 - rate) ** known.sum()
        law = tiny.posterior(tokens, np.tile(known, (len(tokens), 1))).numpy()
        reached = np.take_along_axis(law, tokens[:, :, None], -1)[..., 0]
        surprise = np.where(p[:, None] > 0, -np.log(np.where(reached > 0, reached, 1.0)), 0.0)
        total += chance * (p @ (surprise * ~known).sum(1))
    return total / (rate * LENGTH)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1.0])
def test_the_oracle_cross_entropy_is_that_of_every_sequence_and_every_mask(tiny, table, rate):
    value, error = tiny.oracle_cross_entropy(rate, LENGTH, 3000, seed=2)
    assert value == pytest.approx(exact_masked(tiny, table, rate), abs=4 * error + 1e-12)
    assert error < 0.01


def test_the_integral_of_the_oracle_over_mask_rates_is_the_entropy(tiny, table):
    # any-order chain rule: a polynomial in the rate, so that Gauss-Legendre is exact
    nodes, weights = np.polynomial.legendre.leggauss(4)
    integral = sum(w / 2 * exact_masked(tiny, table, (n + 1) / 2) for n, w in zip(nodes, weights, strict=True))
    assert integral == pytest.approx(tiny.entropy(LENGTH).value, abs=1e-13)


def test_everything_masked_leaves_the_unigram(tiny):
    law = tiny.posterior(np.zeros((1, 5), dtype=int), np.zeros((1, 5), dtype=bool))[0]
    assert law.numpy() == pytest.approx(np.tile(tiny.unigram(), (5, 1)), abs=1e-14)
    assert tiny.oracle_cross_entropy(1.0, 5).value == pytest.approx(tiny.unigram_entropy(), abs=1e-13)


def test_what_cannot_occur_has_no_probability_and_no_conditional():
    corpus = HiddenMarkovCorpus([[0.0, 1.0], [1.0, 0.0]], np.eye(2))
    tokens = np.array([[0, 1, 0], [0, 0, 1]])
    assert corpus.log_prob(tokens).tolist() == [pytest.approx(math.log(0.5)), -math.inf]
    with pytest.raises(DataError, match="sequence 1 has probability 0"):
        corpus.conditional(tokens)


@pytest.mark.parametrize(
    ("tokens", "kwargs", "said"),
    [
        ([[0, 1], [2, 3]], {}, "sequence 1, position 1: token 3 is no residue. Allowed: 0 to 2"),
        ([[0, -1]], {}, "token -1"),
        ([0, 1], {}, r"shape \(B, L\)"),
        ([[0.0, 1.0]], {}, "integers"),
        ([[0, 1]], {"lengths": [1, 2]}, "lengths"),
        ([[0, 1]], {"known": [[1, 0]]}, "bool"),
        ([[0, 1]], {"known": [[True]]}, "bool"),
    ],
)
def test_tokens_that_are_no_residues_are_refused_by_place(tiny, tokens, kwargs, said):
    with pytest.raises(DataError, match=said):
        tiny.log_prob(torch.tensor(tokens), **{k: torch.tensor(v) for k, v in kwargs.items()})


@pytest.mark.parametrize(
    ("transition", "emission", "said"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], [[1.0], [1.0]], "the sum of row 0 is 1.1"),
        ([[1.5, -0.5], [0.5, 0.5]], [[1.0], [1.0]], "none below 0"),
        ([[float("nan")]], [[1.0]], "finite"),
        ([[1.0]], [[0.5, 0.5], [0.5, 0.5]], r"shape \(1, 1\). Allowed: \(2, 2\)"),
        (np.eye(2), [[1.0], [1.0]], "never left"),
        ("ab", [[1.0]], "probabilities"),
        ([[1.0]], np.full((1, 300), 1 / 300), "at most 255"),
    ],
)
def test_tables_that_are_no_laws_are_refused(transition, emission, said):
    with pytest.raises(ConfigurationError, match=said):
        HiddenMarkovCorpus(transition, emission)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c.sample(-1, 4), "count=-1"),
        (lambda c: c.sample(1, 0), "length=0"),
        (lambda c: c.sample(1, 4, seed=-1), "seed=-1"),
        (lambda c: c.sample(1, 4, first=-1), "first=-1"),
        (lambda c: c.entropy(0), "lengths=0"),
        (lambda c: c.entropy([1.5]), "lengths"),
        (lambda c: c.entropy([]), "lengths"),
        (lambda c: c.oracle_cross_entropy(0.0, 4), "mask_rate=0"),
        (lambda c: c.oracle_cross_entropy(1.1, 4), "mask_rate=1.1"),
        (lambda c: c.oracle_cross_entropy(0.5, 4, 0), "n_samples=0"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(tiny, call, said):
    with pytest.raises(ConfigurationError, match=said):
        call(tiny)


def test_the_laws_cannot_be_changed_behind_its_back(tiny):
    with pytest.raises(ValueError, match="read-only"):
        tiny.emission[0, 0] = 1.0


def test_an_empty_batch_is_no_accident(tiny):
    tokens = np.zeros((0, 4), dtype=np.uint8)
    assert tiny.log_prob(tokens).shape == (0,)
    assert tiny.posterior(tokens, tokens == 0).shape == (0, 4, N)


def test_it_has_a_short_repr(tiny):
    assert repr(tiny) == "HiddenMarkovCorpus(n_states=3, n_residues=3)"
    assert repr(MotifHMM()) == "MotifHMM(motifs=4, rho=0.12, epsilon=0.08)"
