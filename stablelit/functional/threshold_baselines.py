r"""What stands beside a tuned score: chance that was tuned too, predicting everything, average precision, an interval.

The largest F1 over all thresholds is an optimistic number. With 13 positives among 156 candidates pure noise reaches
0.20 on average, because the threshold was chosen on the labels that it is judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stablelit.functional.score_groups import Array, ScoreGroups

_DRAWS, _CUTS = 200, 512


class Null(NamedTuple):
    """What a score without information gets: the mean and the 95 % quantile."""

    mean: float
    q95: float


def average_precision(groups: ScoreGroups) -> float:
    r"""AUPRC as :math:`\sum_g (R_g - R_{g-1}) P_g` over the distinct scores; NaN without positives.

    Ties are one step. There is no interpolation between steps (Davis and Goadrich 2006). Chance is the prevalence.
    """
    if not groups.positives:
        return float("nan")
    precision = groups.true_positives[1:] / groups.predicted[1:]
    return float(np.dot(np.diff(groups.true_positives), precision) / groups.positives)


def all_positive_f_beta(positives: int, total: int, beta: float = 1.0) -> float:
    r"""F-beta of predicting everything, :math:`2p/(1+p)` for F1 at prevalence p; NaN without positives."""
    return (1 + beta**2) * positives / (total + beta**2 * positives) if positives else float("nan")


def tuned_null(labels: Sequence[ScoreGroups], beta: float = 1.0) -> Null:
    """The tuned F-beta of the same scores (ties included) when the labels are shuffled, over 200 shuffles.

    With the labels shuffled, the positives of the groups are a multivariate hypergeometric draw. Above 512 groups
    only so many cuts are looked at, half of them even and half geometric: the maximum over fewer cuts is a little
    lower. Nothing is drawn twice for the same validation set.

    Args:
        labels: one for a binary score; of several the mean is taken, each tuned by itself, which is an upper bound
            where they share a threshold. A label without positives is left out.
        beta: of F-beta.
    """
    draws = [_null_draws(_kept_cuts(g), g.positives, beta, seed) for seed, g in enumerate(labels) if g.positives]
    if not draws:
        return Null(float("nan"), float("nan"))
    mean = np.mean(draws, axis=0)
    return Null(float(mean.mean()), float(np.quantile(mean, 0.95)))


def random_choice_null(predicted: int, positives: int, total: int, beta: float = 1.0) -> Null:
    """F-beta of a random choice of as many: for a threshold that was chosen without the labels."""
    if not positives:
        return Null(float("nan"), float("nan"))
    scale = (1 + beta**2) / (predicted + beta**2 * positives)
    draws = np.random.default_rng(0).hypergeometric(positives, total - positives, predicted, size=2000)
    return Null(scale * predicted * positives / total, float(scale * np.quantile(draws, 0.95)))


def bootstrap_interval(
    units: Array, multiplicity: Array | None = None, beta: float = 1.0, draws: int = 1000
) -> tuple[float, float]:
    """The 95 % percentile interval of F-beta when whole units (samples, groups of samples, graphs) are drawn again.

    Edges of one graph are not units: they depend on each other.

    Args:
        units: (U, 3) true positives, predictions and positives of each unit.
        multiplicity: (U,) how many units are like this one; one each by default. A million samples are four kinds.
        beta: of F-beta.
        draws: how many times.

    Returns:
        Lower and upper end; NaN where fewer than two units are there.
    """
    kinds, places = np.unique(units, axis=0, return_inverse=True)
    like = np.bincount(places.reshape(-1), multiplicity, len(kinds))
    total = int(like.sum())
    if total < 2:
        return float("nan"), float("nan")
    sums = np.random.default_rng(0).multinomial(total, like / like.sum(), size=draws) @ kinds
    with np.errstate(invalid="ignore"):
        values = (1 + beta**2) * sums[:, 0] / (sums[:, 1] + beta**2 * sums[:, 2])
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _kept_cuts(groups: ScoreGroups) -> tuple[int, ...]:
    places = groups.predicted[1:]
    if len(places) > _CUTS:
        # a maximum at few predictions is narrow, so half of the cuts lie there
        even, geometric = np.linspace(0, len(places) - 1, _CUTS // 2), np.geomspace(1, len(places), _CUTS // 2) - 1
        places = places[np.unique(np.concatenate([even, geometric]).round().astype(np.int64))]
    return tuple(int(place) for place in places)


@lru_cache(maxsize=128)
def _null_draws(predicted: tuple[int, ...], positives: int, beta: float, seed: int) -> Array:
    cuts = np.asarray(predicted)
    rng = np.random.default_rng(seed)
    hits = rng.multivariate_hypergeometric(np.diff(cuts, prepend=0), positives, size=_DRAWS, method="marginals")
    return np.asarray(((1 + beta**2) * hits.cumsum(axis=1) / (cuts + beta**2 * positives)).max(axis=1))
