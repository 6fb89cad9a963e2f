"""Thresholds of several labels: one for their pool, one that all share, or one each; and fitted here, scored there.

========== ==========================================  ===========================================================
average     threshold                                   F1
========== ==========================================  ===========================================================
micro       one; all labels are one pool                of the pool
macro       one, shared; exact over all scores          mean over labels
per-label   one for each label                          mean over labels, which is the largest macro F1 there is
========== ==========================================  ===========================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from stablelit.functional.score_groups import Array, ScoreGroups
from stablelit.functional.thresholds import Counts, Criterion, counts_at, threshold_curve, threshold_for

Average = Literal["micro", "macro", "per-label"]
Fit = Callable[[Sequence[ScoreGroups]], list[float]]


def fit_thresholds(
    labels: Sequence[ScoreGroups],
    average: Average,
    criterion: Criterion = "f1",
    beta: float = 1.0,
    grid: int | None = None,
) -> list[float]:
    """The best threshold of each label; NaN for a label without positives, where nothing is best.

    Args:
        labels: the groups of each label; of the pool for `micro`.
        average: see the module's table.
        criterion: what is largest.
        beta: of F-beta.
        grid: as in :func:`stablelit.functional.thresholds.sweep`.
    """
    with_positives = [groups for groups in labels if groups.positives]
    if not with_positives:
        return [math.nan] * len(labels)
    if average == "macro":
        shared = shared_threshold(with_positives, criterion, beta, grid)
        return [shared] * len(labels)
    best = [threshold_curve(groups, grid).best(criterion, beta).threshold for groups in with_positives]
    following = iter(best)
    return [next(following) if groups.positives else math.nan for groups in labels]


def shared_threshold(
    labels: Sequence[ScoreGroups], criterion: Criterion = "f1", beta: float = 1.0, grid: int | None = None
) -> float:
    """The one threshold at which the mean of the criterion over labels is largest, over all scores of all labels.

    Lowering the threshold past a score changes the criterion of the labels that have this score, and of no other: the
    mean is a running sum of these changes, over the scores of all labels in one order.
    """
    if grid is not None:
        curves = [threshold_curve(groups, grid) for groups in labels]
        mean = np.mean([curve.values(criterion, beta) for curve in curves], axis=0)
        return float(curves[0].thresholds[np.argmax(mean.round(12))])
    curves = [threshold_curve(groups) for groups in labels]
    # a score of plus infinity is always predicted: what it changes is there from the beginning
    changes = [np.diff(curve.values(criterion, beta), prepend=0.0) for curve in curves]
    scores = [np.concatenate([[np.inf], groups.scores])[-len(c) :] for c, groups in zip(changes, labels, strict=True)]
    distinct, places = np.unique(np.concatenate(scores), return_inverse=True)
    total = np.cumsum(np.bincount(places, np.concatenate(changes))[::-1])
    # the sums of equal terms in another order differ in the last digits: round, so that equals are equal
    best = int(np.argmax(total.round(12)))
    return threshold_for(distinct[::-1], best + 1, labels[0].dtype)


def average_f_beta(labels: Sequence[Counts], beta: float = 1.0) -> float:
    """The mean of F-beta over the labels that have positives; NaN where none has."""
    return _mean([counts.f_beta(beta) for counts in labels])


def average_of(labels: Sequence[Any], value: Callable[[Any], float]) -> float:
    """The mean of any value over the labels where it is defined."""
    return _mean([value(label) for label in labels])


def counts_of(labels: Sequence[ScoreGroups], thresholds: Sequence[float]) -> list[Counts]:
    """What the thresholds do; a label whose threshold is NaN counts nothing."""
    return [
        Counts(t, 0, 0, 0, groups.total) if math.isnan(t) else counts_at(groups, t)
        for groups, t in zip(labels, thresholds, strict=True)
    ]


def cross_fit(halves: tuple[Sequence[ScoreGroups], Sequence[ScoreGroups]], fit: Fit) -> list[Counts]:
    """Fits on one half and counts on the other, both ways, and adds the counts of each label.

    No sample has a say in the threshold that it is judged by. A label that has no positives in one half is left out.
    """
    first, second = halves
    there, back = counts_of(second, fit(first)), counts_of(first, fit(second))
    return [add_counts(a, b) for a, b in zip(there, back, strict=True)]


def add_counts(a: Counts, b: Counts) -> Counts:
    """The counts of two parts together, at the mean of their thresholds; nothing where one has no threshold."""
    total = a.total + b.total
    if math.isnan(a.threshold) or math.isnan(b.threshold):
        return Counts(math.nan, 0, 0, 0, total)
    predicted, right = a.predicted + b.predicted, a.true_positives + b.true_positives
    return Counts((a.threshold + b.threshold) / 2, predicted, right, a.positives + b.positives, total)


def in_first_half(units: Array) -> Array:
    """A coin for each unit (a sample's number, or the number of its group), the same on every call and every rank.

    The coin is one bit of a multiplicative hash: whatever the order of the samples, neighbours fall apart.
    """
    mixed = units.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.asarray((mixed >> np.uint64(63)) == 0)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
