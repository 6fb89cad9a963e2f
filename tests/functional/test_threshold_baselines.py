from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.functional.score_groups import ScoreGroups, group_scores
from stablelit.functional.threshold_baselines import (
    all_positive_f_beta,
    average_precision,
    bootstrap_interval,
    random_choice_null,
    tuned_null,
)
from stablelit.functional.thresholds import sweep


def tuned_by_permutation(scores, positives, draws, rng):
    labels = np.arange(len(scores)) < positives
    return np.array([sweep(scores, rng.permutation(labels))[1].f_beta() for _ in range(draws)])


def test_average_precision_is_the_sum_over_distinct_scores():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = rng.integers(0, 8, 40) / 8, rng.random(40) < 0.3
        steps, recall_before = 0.0, 0.0
        for threshold in sorted(set(scores), reverse=True):
            predicted = scores >= threshold
            recall = (predicted & labels).sum() / labels.sum()
            steps += (recall - recall_before) * (predicted & labels).sum() / predicted.sum()
            recall_before = recall
        assert average_precision(group_scores(scores, labels)) == pytest.approx(steps)
    assert math.isnan(average_precision(group_scores(np.array([0.1]), np.array([False]))))


def test_average_precision_of_constant_scores_is_the_prevalence():
    assert average_precision(group_scores(np.full(8, 0.5), np.arange(8) < 2)) == 0.25


def test_predicting_everything():
    assert all_positive_f_beta(13, 156) == pytest.approx(2 * (13 / 156) / (1 + 13 / 156))
    assert all_positive_f_beta(13, 156) == pytest.approx(0.154, abs=5e-4)  # the complete graph of 13 nodes
    assert all_positive_f_beta(3, 4, beta=2.0) == pytest.approx(5 * 0.75 * 1 / (4 * 0.75 + 1))
    assert math.isnan(all_positive_f_beta(0, 4))


@pytest.mark.slow
def test_the_null_is_the_tuned_f1_of_permuted_labels():
    rng = np.random.default_rng(1)
    for scores, positives in ((rng.random(156).astype(np.float32), 13), (rng.integers(0, 6, 60) / 6, 20)):
        labels = np.arange(len(scores)) < positives
        told = tuned_null([group_scores(scores, labels)])
        found = tuned_by_permutation(scores, positives, 600, rng)
        error = 4 * found.std() * math.sqrt(1 / 600 + 1 / 200)
        assert told.mean == pytest.approx(found.mean(), abs=error)
        assert told.q95 == pytest.approx(np.quantile(found, 0.95), abs=3 * error)
    # 13 of 156: the number that every gate on a tuned F1 has to beat
    assert tuned_null([group_scores(rng.random(156), np.arange(156) < 13)]).mean == pytest.approx(0.199, abs=0.012)


@pytest.mark.parametrize(("criterion", "grid"), [("accuracy", None), ("youden", None), ("f1", 5)])
def test_the_null_is_chosen_as_the_threshold_is(criterion, grid):
    rng, labels = np.random.default_rng(6), np.arange(60) < 12
    scores = rng.random(60).astype(np.float32) * (0.4 if grid else 1.0)
    told = tuned_null([group_scores(scores, labels)], 1.0, criterion, grid)
    cuts = np.linspace(1, 0, grid) if grid else np.array([np.inf, *np.sort(scores)[::-1]])
    predicted, found = scores >= cuts[:, None], []
    for _ in range(400):
        permuted = rng.permutation(labels)
        f1 = 2 * (predicted & permuted).sum(1) / (predicted.sum(1) + 12)
        value = {
            "accuracy": (predicted == permuted).mean(1),
            "youden": predicted[:, permuted].mean(1) - predicted[:, ~permuted].mean(1),
            "f1": f1,
        }[criterion]
        found.append(f1[value.round(9).argmax()])
    error = 4 * np.std(found) * math.sqrt(1 / 400 + 1 / 200)
    assert told.mean == pytest.approx(np.mean(found), abs=error)


def test_thousands_of_millions_of_scores_have_a_null():
    many = np.array([0, 1, 10, 20]) * 10**8
    groups = ScoreGroups(np.array([3, 2, 1], np.float32), many, many // 10)
    assert tuned_null([groups]).mean == pytest.approx(2 * 0.1 / 1.1, abs=1e-3)
    assert random_choice_null(10**9, 2 * 10**8, 2 * 10**9).mean == pytest.approx(2 * 1e8 / 1.2e9)


@pytest.mark.slow
def test_fewer_cuts_change_the_null_of_many_scores_little():
    rng = np.random.default_rng(2)
    scores = rng.random(6000).astype(np.float32)
    for positives in (12, 600):
        told = tuned_null([group_scores(scores, np.arange(6000) < positives)])
        found = tuned_by_permutation(scores, positives, 150, rng)
        error = 4 * found.std() * math.sqrt(1 / 150 + 1 / 200)
        assert told.mean == pytest.approx(found.mean(), abs=error + 0.02 * found.mean())


def test_the_null_of_several_labels_is_narrower_than_of_one():
    rng = np.random.default_rng(3)
    labels = [group_scores(rng.random(100), np.arange(100) < 10) for _ in range(5)]
    one, five = tuned_null(labels[:1]), tuned_null(labels)
    assert five.mean == pytest.approx(one.mean, abs=0.03)
    assert five.q95 - five.mean < one.q95 - one.mean
    empty = group_scores(rng.random(100), np.zeros(100, bool))
    assert tuned_null([labels[0], empty]) == one
    assert math.isnan(tuned_null([empty]).mean)


@pytest.mark.slow
def test_a_random_choice_of_as_many():
    rng = np.random.default_rng(4)
    drawn = [(rng.permutation(156)[:16] < 13).sum() for _ in range(20_000)]
    values = 2 * np.array(drawn) / (16 + 13)
    told = random_choice_null(16, 13, 156)
    assert told.mean == pytest.approx(values.mean(), abs=2e-3)
    assert told.mean == pytest.approx(0.092, abs=1e-3)
    assert told.q95 == pytest.approx(np.quantile(values, 0.95), abs=2 / 29 + 1e-9)
    assert math.isnan(random_choice_null(3, 0, 10).mean)


def test_the_interval_is_that_of_drawing_whole_units_again():
    rng = np.random.default_rng(5)
    units = rng.multinomial(6, [0.5, 0.2, 0.2, 0.1], size=40)[:, :3]
    units[:, 1:] += units[:, :1]
    drawn = [units[rng.integers(0, 40, 40)].sum(0) for _ in range(4000)]
    values = [2 * tp / (k + p) for tp, k, p in drawn]
    assert bootstrap_interval(units, draws=4000) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.01)


def test_like_units_may_be_given_by_their_number():
    kinds, many = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]), np.array([30, 10, 20, 40])
    assert bootstrap_interval(kinds, many) == bootstrap_interval(kinds.repeat(many, axis=0))


def test_one_unit_has_no_interval():
    assert all(math.isnan(end) for end in bootstrap_interval(np.array([[3, 5, 6]])))
