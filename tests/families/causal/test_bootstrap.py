from __future__ import annotations

import doctest

import numpy as np
import pytest

import stablelit.families.causal.bootstrap as module
from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.bootstrap import bootstrap_confidence


def seen_by(rows, **kwargs):
    """The row numbers of every draw."""
    draws = []

    def learn(index):
        draws.append(index)
        return np.zeros((2, 2))

    bootstrap_confidence(rows, learn, **kwargs)
    return np.stack(draws)


def graph(*edges, nodes=3):
    matrix = np.zeros((nodes, nodes), dtype=bool)
    for i, j in edges:
        matrix[i, j] = True
    return matrix


@pytest.mark.slow
def test_frequencies_are_those_of_a_learner_whose_chances_are_known():
    # row 0 is in a resampling of n rows with probability 1 - (1 - 1/n)^n
    def learn(index):
        return graph((0, 1)) if (index == 0).any() else graph((1, 0), (1, 2))

    confidence = bootstrap_confidence(10, learn, n=4000)
    chance = 1 - 0.9**10
    expected = np.array([[0, chance, 0], [1 - chance, 0, 1 - chance], [0, 0, 0]])
    error = np.sqrt(chance * (1 - chance) / 4000)
    assert np.abs(confidence.directed - expected).max() < 4 * error
    assert confidence.standard_error[0, 1] == pytest.approx(error, rel=0.1)
    assert confidence.joined[0, 1] == confidence.joined[1, 0] == 1
    assert confidence.joined[1, 2] == confidence.joined[2, 1] == confidence.directed[1, 2]
    assert confidence.draws == 4000


def test_a_pair_that_is_joined_both_ways_counts_once():
    confidence = bootstrap_confidence(5, lambda index: graph((0, 1), (1, 0)), n=3)
    assert confidence.directed[0, 1] == confidence.directed[1, 0] == confidence.joined[0, 1] == 1


@pytest.mark.slow
def test_rows_are_drawn_with_repetition_and_uniformly():
    draws = seen_by(8, n=3000)
    assert draws.shape == (3000, 8)
    counts = np.bincount(draws.reshape(-1), minlength=8) / draws.size
    assert np.abs(counts - 1 / 8).max() < 0.01
    assert any(len(set(draw)) < 8 for draw in draws)


@pytest.mark.parametrize(("rows", "block"), [(20, 5), (20, 6), (7, 7), (9, 1)])
def test_blocks_are_consecutive_and_start_anywhere(rows, block):
    draws = seen_by(rows, n=500, block=block)
    assert draws.shape == (500, rows)
    starts = draws[:, ::block]
    for place in range(rows):
        assert (draws[:, place] == starts[:, place // block] + place % block).all()
    # the last block is cut, so its start too may be any
    assert set(starts.reshape(-1).tolist()) == set(range(rows - block + 1))


def test_no_block_reaches_into_another_group_and_groups_keep_their_size():
    groups = np.repeat([7, 3, 5], [6, 4, 10])
    for draw in seen_by(20, n=100, block=4, groups=groups):
        assert (np.bincount(groups[draw]) == np.bincount(groups)).all()
        # the groups of 4, 10 and 6 rows in turn, each in blocks of 4 that are cut to its rows
        for chunk in np.split(draw, [4, 8, 12, 14, 18]):
            assert (np.diff(chunk) == 1).all()
            assert len(set(groups[chunk])) == 1
    apart = np.array([0, 1, 0, 1])
    for draw in seen_by(4, n=50, groups=apart):
        assert sorted(apart[draw].tolist()) == [0, 0, 1, 1]


def test_the_seed_decides():
    first, again, other = (seen_by(30, n=5, block=3, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_blocks_keep_the_uncertainty_that_single_rows_lose():
    # the mean of an AR(1) series has a variance (1+r)/(1-r) times that of independent rows
    rng = np.random.default_rng(0)
    series = np.zeros(4000)
    for t in range(1, 4000):
        series[t] = 0.8 * series[t - 1] + rng.normal()

    def spread(block):
        means = []
        bootstrap_confidence(4000, lambda i: means.append(series[i].mean()) or graph(), n=300, block=block)
        return np.std(means)

    assert spread(100) / spread(None) == pytest.approx(3.0, rel=0.25)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rows": 1}, ConfigurationError, "bootstrap_confidence: rows=1"),
        ({"n": 0}, ConfigurationError, "n=0"),
        ({"block": 0}, ConfigurationError, "block=0"),
        ({"block": 11}, ConfigurationError, "block=11 is not allowed. Allowed: at most 10"),
        ({"seed": -1}, ConfigurationError, "seed=-1"),
        ({"groups": np.zeros(4)}, DataError, r"groups of shape \(4,\) for 10 rows"),
        ({"groups": np.arange(10) % 2, "block": 2}, DataError, "rows of group .* lie apart, from 0 to 8"),
        ({"groups": np.repeat([0, 1], [7, 3]), "block": 4}, ConfigurationError, "at most 3"),
        ({"learn": lambda index: np.full((2, 2), 0.3)}, DataError, "graph of draw 0: 4 entries are neither 0 nor 1"),
        ({"learn": lambda index: np.zeros((2, 2, 2))}, DataError, r"graph of shape \(2, 2, 2\) in draw 0"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    settings = {"rows": 10, "learn": lambda index: graph(), "n": 2, **arguments}
    with pytest.raises(error, match=message):
        bootstrap_confidence(**settings)


def test_a_graph_of_another_size_is_refused():
    sizes = iter([2, 3])
    with pytest.raises(DataError, match=r"shape \(1, 3, 3\) in draw 1.*the same d each time"):
        bootstrap_confidence(5, lambda index: np.zeros((size := next(sizes), size)), n=2)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).failed == 0
