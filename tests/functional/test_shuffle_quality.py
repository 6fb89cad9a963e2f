from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.functional.shuffle_quality import (
    batch_design_effect,
    chunks_to_mix,
    displacement,
    expected_design_effect,
    label_icc,
    pair_recurrence,
    same_chunk_ratio,
    shuffle_quality,
)

RNG = np.random.default_rng(0)
N, CHUNK, BATCH = 6000, 100, 40
CHUNK_ID = np.arange(N) // CHUNK


def test_a_random_order_scores_one_in_everything():
    labels = RNG.normal(size=N) + 0.2 * RNG.normal(size=N // CHUNK)[CHUNK_ID]
    quality = shuffle_quality(RNG.permutation(N), BATCH, CHUNK_ID, labels, RNG.permutation(N))
    assert quality["same_chunk_ratio"] == pytest.approx(1, abs=0.15)
    assert quality["recurrence"] == pytest.approx(1, abs=0.25)
    assert quality["displacement"] == pytest.approx(1, abs=0.05)
    assert quality["design_effect"] == pytest.approx(1, abs=5 * math.sqrt(2 / (N / BATCH)))


def test_the_ratio_is_that_of_all_pairs():
    order, chunk_id = RNG.permutation(12), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 0])
    batches = [order[i : i + 5] for i in (0, 5, 10)]
    pairs = [(a, b) for batch in batches for a, b in itertools.combinations(batch.tolist(), 2)]
    together = np.mean([chunk_id[a] == chunk_id[b] for a, b in pairs])
    at_random = np.mean([chunk_id[a] == chunk_id[b] for a, b in itertools.combinations(range(12), 2)])
    assert same_chunk_ratio(order, chunk_id, 5) == pytest.approx(together / at_random)


def test_the_recurrence_is_that_of_all_pairs():
    first, second = RNG.permutation(13), RNG.permutation(13)

    def pairs(order):
        batches = [order[i : i + 4].tolist() for i in range(0, 13, 4)]
        return {frozenset(p) for batch in batches for p in itertools.combinations(batch, 2)}

    every = 13 * 12 / 2
    share = len(pairs(first) & pairs(second)) / len(pairs(second)) / (len(pairs(first)) / every)
    assert pair_recurrence(first, second, 4) == pytest.approx(share)


def test_the_same_order_again_recurs_as_often_as_it_can():
    order = RNG.permutation(N)
    assert pair_recurrence(order, order, BATCH) == pytest.approx((N - 1) / (BATCH - 1))


def test_the_design_effect_of_chunks_read_in_order_is_that_of_a_cluster_sample():
    icc = 0.3
    effects = []
    for _ in range(30):
        labels = math.sqrt(icc) * RNG.normal(size=N // CHUNK)[CHUNK_ID] + math.sqrt(1 - icc) * RNG.normal(size=N)
        effects.append(batch_design_effect(labels, 50))
    expected = expected_design_effect(1.0, N // CHUNK, 50, icc)
    assert expected == pytest.approx(1 + 49 * icc)
    assert np.mean(effects) == pytest.approx(expected, rel=0.1)


def test_a_full_shuffle_is_expected_to_cost_nothing():
    assert expected_design_effect(1 / 60, 60, 256, 0.5) == pytest.approx(1)
    assert expected_design_effect(1.0, 1, 256, 0.5) == 1.0


def test_every_batch_with_the_same_labels_has_no_variance():
    assert batch_design_effect(np.tile([0.0, 1.0], 50), 10) == 0.0


@pytest.mark.parametrize("labels", [np.ones(100), np.arange(15.0)], ids=["constant", "one whole batch"])
def test_without_variance_or_batches_there_is_no_design_effect(labels):
    assert math.isnan(batch_design_effect(labels, 10))


def test_the_intra_class_correlation_is_found_again():
    values = [0.0, 0.02, 0.5]
    chunk_id = np.arange(60_000) // 100
    for icc in values:
        labels = math.sqrt(icc) * RNG.normal(size=600)[chunk_id] + math.sqrt(1 - icc) * RNG.normal(size=60_000)
        assert label_icc(labels, chunk_id) == pytest.approx(icc, abs=0.01 + 0.15 * icc)
    assert label_icc(chunk_id.astype(float), chunk_id) == pytest.approx(1)


def test_one_chunk_or_one_sample_a_chunk_has_no_intra_class_correlation():
    assert math.isnan(label_icc(np.arange(5.0), np.zeros(5)))
    assert math.isnan(label_icc(np.arange(5.0), np.arange(5)))
    assert math.isnan(label_icc(np.ones(6), np.arange(6) // 2))


def test_displacement_is_nought_in_order_and_averages_to_one_over_all_permutations():
    assert displacement(np.arange(9)) == 0
    assert displacement(np.arange(1)) == 0
    every = [displacement(np.array(p)) for p in itertools.permutations(range(6))]
    assert np.mean(every) == pytest.approx(1)


def test_the_rule_for_the_chunks_to_mix_keeps_its_promise():
    k = chunks_to_mix(256, 0.02, 0.1)
    assert 1 + 255 * 0.02 / k <= 1.1 < 1 + 255 * 0.02 / (k - 1)
    assert chunks_to_mix(256, 0.0) == 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_data_have_scores(n):
    quality = shuffle_quality(range(n), 1, np.zeros(n, dtype=int), np.arange(n), range(n))
    assert quality["same_chunk_ratio"] == 1
    assert quality["recurrence"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"order": [0, 1, 1]}, "no permutation of 0 to 2.*2 different"),
        ({"order": [0, 1, 3]}, "from 0 to 3"),
        ({"order": []}, "flat sequence"),
        ({"order": [0.5, 1.0, 2.0]}, "flat sequence of sample indices"),
        ({"chunk_id": [0, 0]}, "chunk_id has shape \\(2,\\); the order has 3"),
        ({"labels": [0.0]}, "labels has shape"),
        ({"next_order": [0, 1]}, "next_order has shape"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        shuffle_quality(**{"order": [2, 0, 1], "batch_size": 2, "chunk_id": [0, 0, 1], **arguments})


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0.0, math.nan, math.inf], r"labels\[1\]=nan is not finite \(2 of 3 are not\)"),
        ([0, 1, -math.inf], r"labels\[2\]=-inf is not finite \(1 of 3"),
        (["a", "b", "c"], "labels are of type <U1; give a number"),
        ([None, 1, 2], r"labels\[0\]=nan"),
    ],
)
def test_labels_that_are_no_finite_numbers_are_refused_with_their_place(labels, says):
    with pytest.raises(DataError, match=says):
        shuffle_quality([2, 0, 1], 2, [0, 0, 1], labels)


def test_numpys_integers_are_batch_sizes_too():
    assert shuffle_quality([2, 0, 1], np.int32(2), [0, 0, 1]) == shuffle_quality([2, 0, 1], 2, [0, 0, 1])
