from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.functional.multilabel_thresholds import (
    average_f_beta,
    counts_of,
    cross_fit,
    fit_thresholds,
    in_first_half,
    shared_threshold,
)
from stablelit.functional.score_groups import group_scores


def f1(predicted, labels):
    return 2 * (predicted & labels).sum() / (predicted.sum() + labels.sum())


def macro(scores, labels, threshold):
    """The mean of F1 over the columns that have positives."""
    columns = [c for c in range(scores.shape[1]) if labels[:, c].any()]
    return np.mean([f1(scores[:, c] >= threshold, labels[:, c]) for c in columns])


def several(seed, rows=30, columns=3):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, 15, (rows, columns)) / 15).astype(np.float32) * [1, 1, 0.3]
    labels = rng.random((rows, columns)) < [0.2, 0.4, 0.2]
    return (
        scores.astype(np.float32),
        labels,
        [group_scores(scores[:, c].astype(np.float32), labels[:, c]) for c in range(3)],
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_shared_threshold_is_the_best_of_all_for_the_mean_over_labels(seed):
    scores, labels, groups = several(seed)
    threshold = shared_threshold(groups)
    every = [macro(scores, labels, t) for t in np.unique(scores)]
    assert macro(scores, labels, threshold) == pytest.approx(max(every), abs=1e-12)
    fewest = min((scores >= t).sum() for t, m in zip(np.unique(scores), every, strict=True) if m > max(every) - 1e-12)
    assert (scores >= threshold).sum() == fewest


def test_the_shared_threshold_with_infinite_scores():
    scores = np.array([[np.inf, 1.0], [0.5, np.inf], [0.2, 0.1]], dtype=np.float32)
    labels = np.array([[True, True], [True, False], [False, False]])
    groups = [group_scores(scores[:, c], labels[:, c]) for c in range(2)]
    threshold = shared_threshold(groups)
    assert macro(scores, labels, threshold) == max(macro(scores, labels, t) for t in scores.ravel())


def test_a_threshold_for_each_label_gives_the_largest_macro_f1():
    scores, labels, groups = several(1)
    thresholds = fit_thresholds(groups, "per-label")
    told = average_f_beta(counts_of(groups, thresholds))
    by_hand = np.mean([max(f1(scores[:, c] >= t, labels[:, c]) for t in scores[:, c]) for c in range(3)])
    assert told == pytest.approx(by_hand)
    assert told >= average_f_beta(counts_of(groups, fit_thresholds(groups, "macro")))


def test_the_grid_for_a_shared_threshold():
    scores, labels, groups = several(2)
    threshold = shared_threshold(groups, grid=21)
    grid = np.linspace(0, 1, 21).astype(np.float32)
    assert threshold in np.linspace(0, 1, 21)
    assert macro(scores, labels, np.float32(threshold)) == pytest.approx(max(macro(scores, labels, t) for t in grid))


def test_a_label_without_positives_has_no_threshold_and_no_say():
    scores, labels, groups = several(3)
    empty = group_scores(scores[:, 0], np.zeros(30, bool))
    thresholds = fit_thresholds([groups[0], empty], "per-label")
    assert thresholds[0] == fit_thresholds(groups[:1], "per-label")[0]
    assert math.isnan(thresholds[1])
    assert (
        average_f_beta(counts_of([groups[0], empty], thresholds)) == counts_of(groups[:1], thresholds[:1])[0].f_beta()
    )
    assert math.isnan(average_f_beta(counts_of([empty], [0.5])))
    assert all(math.isnan(t) for t in fit_thresholds([empty, empty], "macro"))


def test_cross_fitting_judges_each_half_by_the_other_halfs_threshold():
    rng = np.random.default_rng(4)
    scores, labels = rng.random(80).astype(np.float32), rng.random(80) < 0.3
    first = in_first_half(np.arange(80))
    halves = [[group_scores(scores[half], labels[half])] for half in (first, ~first)]
    (counts,) = cross_fit(tuple(halves), lambda groups: fit_thresholds(groups, "micro"))
    a, b = (fit_thresholds(half, "micro")[0] for half in halves)
    predicted = np.where(first, scores >= np.float32(b), scores >= np.float32(a))
    assert (counts.predicted, counts.true_positives) == (predicted.sum(), (predicted & labels).sum())
    assert (counts.positives, counts.total) == (labels.sum(), 80)


def test_cross_fitting_of_noise_is_at_chance_where_the_oracle_is_above_it():
    rng = np.random.default_rng(5)
    fitted, honest = [], []
    for _ in range(40):
        scores, labels = rng.random(60).astype(np.float32), rng.permutation(np.arange(60) < 15)
        whole = [group_scores(scores, labels)]
        first = in_first_half(np.arange(60))
        halves = tuple([group_scores(scores[half], labels[half])] for half in (first, ~first))
        fit = lambda groups: fit_thresholds(groups, "micro")  # noqa: E731
        fitted.append(average_f_beta(counts_of(whole, fit(whole))))
        honest.append(average_f_beta(cross_fit(halves, fit)))
    everything = 2 * 15 / (60 + 15)
    assert np.mean(fitted) > everything > np.mean(honest) - 0.02


def test_a_half_without_positives_leaves_the_label_out():
    groups = group_scores(np.float32([0.1, 0.9]), np.array([False, True]))
    empty = group_scores(np.float32([0.2, 0.3]), np.array([False, False]))
    (counts,) = cross_fit(([groups], [empty]), lambda g: fit_thresholds(g, "micro"))
    assert math.isnan(counts.f_beta())


def test_the_coin_is_fair_and_neighbours_fall_apart():
    for units in (np.arange(20_000), 2 * np.arange(20_000), 64 * np.arange(20_000) + 10**9):
        coin = in_first_half(units)
        assert abs(coin.mean() - 0.5) < 0.02
        assert abs((coin[1:] == coin[:-1]).mean() - 0.5) < 0.02
