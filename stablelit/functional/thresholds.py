r"""The best decision threshold over *all* scores, exactly, with one sort.

Sort the scores in descending order and predict the first :math:`k`; with :math:`P` positives among :math:`N` and
:math:`\mathrm{tp}_k` of them among the first :math:`k`,

.. math:: F_\beta(k) = \frac{(1+\beta^2)\,\mathrm{tp}_k}{k + \beta^2 P}.

Equal scores are predicted together, so only the last place of each group of ties is a cut; predicting nothing and
predicting everything are cuts too. Convention everywhere: predicted where ``score >= threshold``. Lipton, Elkan and
Naryanaswamy 2014, arXiv 1402.1892, on what the maximum of F1 looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_number
from stablelit.functional.score_groups import Array, ScoreGroups, group_scores

Criterion = Literal["f1", "fbeta", "youden", "accuracy"]


class Counts(NamedTuple):
    """What a threshold does: how many are predicted, and how many of them rightly."""

    threshold: float
    predicted: int
    true_positives: int
    positives: int
    total: int

    @property
    def precision(self) -> float:
        """The share of predictions that are right; NaN where nothing is predicted."""
        return self.true_positives / self.predicted if self.predicted else float("nan")

    @property
    def recall(self) -> float:
        """The share of positives that are found; NaN where there are none."""
        return self.true_positives / self.positives if self.positives else float("nan")

    def f_beta(self, beta: float = 1.0) -> float:
        """F-beta; NaN where there are no positives."""
        if not self.positives:
            return float("nan")
        return float((1 + beta**2) * self.true_positives / (self.predicted + beta**2 * self.positives))


@dataclass(frozen=True)
class ThresholdCurve:
    """Every cut there is, from the fewest predictions to the most.

    Args:
        groups: the scores.
        cuts: how many groups each of the C cuts predicts, ascending: an index, or a slice of them all.
        grid: (C,) the thresholds themselves where they were given, else None.
    """

    groups: ScoreGroups
    cuts: Array | slice
    grid: Array | None = None

    @property
    def predicted(self) -> Array:
        """(C,) predictions, k."""
        return self.groups.predicted[self.cuts]

    @property
    def true_positives(self) -> Array:
        """(C,) right predictions, tp."""
        return self.groups.true_positives[self.cuts]

    @cached_property
    def thresholds(self) -> Array:
        """(C,) float64, descending."""
        return self.grid if self.grid is not None else _between(self.groups, self._places)

    @property
    def _places(self) -> Array:
        return np.arange(len(self.groups.predicted))[self.cuts]

    def values(self, criterion: Criterion, beta: float = 1.0) -> Array:
        """(C,) the criterion at each cut; NaN where it is undefined."""
        total, positives, tp = self.groups.total, self.groups.positives, self.true_positives
        with np.errstate(divide="ignore", invalid="ignore"):
            if criterion == "accuracy":
                return np.asarray((total - positives - self.predicted + 2 * tp) / total)
            if criterion == "youden":
                return np.asarray(tp / positives - (self.predicted - tp) / (total - positives))
            square = (beta if criterion == "fbeta" else 1.0) ** 2
            return np.asarray((1 + square) * tp / ((self.predicted + square * positives) if positives else np.nan))

    def at(self, index: int) -> Counts:
        """The counts of one cut."""
        threshold = self.grid[index] if self.grid is not None else _between(self.groups, self._places[[index]])[0]
        counts = int(self.predicted[index]), int(self.true_positives[index])
        return Counts(float(threshold), *counts, self.groups.positives, self.groups.total)

    def best(self, criterion: Criterion = "f1", beta: float = 1.0) -> Counts:
        """The cut with the largest value; among equals the one with the fewest predictions."""
        # where a criterion is undefined, it is so at every cut: the first one stands
        return self.at(int(np.argmax(self.values(criterion, beta))))

    def nearest_count(self, count: int) -> Counts:
        """The cut whose number of predictions is nearest to `count`; among equals the one with fewer."""
        return self.at(int(np.argmin(np.abs(self.predicted - count))))


def sweep(
    scores: Tensor | Array,
    targets: Tensor | Array,
    criterion: Criterion = "f1",
    beta: float = 1.0,
    grid: int | None = None,
) -> tuple[ThresholdCurve, Counts]:
    """The curve of all thresholds, and the best of them.

    Args:
        scores: any shape, as raw as they are; nothing is squashed.
        targets: the same shape, 0 and 1.
        criterion: what is largest at the best threshold.
        beta: of F-beta, above 0: recall counts beta times as much as precision.
        grid: None for every threshold; a number for that many of `linspace(0, 1)` alone.

    Raises:
        DataError: NaN scores, shapes that differ, targets other than 0 and 1, nothing at all.
        ConfigurationError: an unknown criterion, beta not above 0, a grid below 2.

    Example:
        >>> curve, best = sweep(torch.tensor([0.1, 0.6, 0.4, 0.9]), torch.tensor([0, 0, 1, 1]))
        >>> best.f_beta(), round(best.threshold, 4)
        (0.8, 0.25)
    """
    if criterion not in get_args(Criterion):
        raise bad_argument("sweep", "criterion", criterion, ", ".join(get_args(Criterion)))
    check_number("sweep", "beta", beta, above=0.0)
    curve = threshold_curve(group_scores(scores, targets), grid)
    return curve, curve.best(criterion, beta)


def threshold_curve(groups: ScoreGroups, grid: int | None = None) -> ThresholdCurve:
    """All cuts of the scores, or those of a grid on [0, 1].

    Raises:
        ConfigurationError: a grid below 2.
    """
    if grid is None:
        # no threshold leaves out a score of plus infinity
        first = 1 if np.isposinf(groups.scores[0]) else 0
        return ThresholdCurve(groups, slice(first, None))
    check_grid("threshold_curve", grid)
    thresholds = np.linspace(0.0, 1.0, grid)[::-1]
    return ThresholdCurve(groups, np.searchsorted(-groups.scores.astype(np.float64), -thresholds, "right"), thresholds)


def check_grid(owner: str, grid: object) -> None:
    """Refuses what is no number of thresholds.

    Raises:
        ConfigurationError: not an int of 2 or more.
    """
    if isinstance(grid, bool) or not isinstance(grid, int) or grid < 2:
        raise bad_argument(owner, "grid", grid, "an int of 2 or more, or None for all thresholds")


def counts_at(groups: ScoreGroups, threshold: float) -> Counts:
    """What a given threshold does on these scores."""
    # a comparison rounds the threshold to the type of the scores: so does this
    rounded = float(torch.tensor(threshold, dtype=groups.dtype))
    cut = np.searchsorted(-groups.scores, -groups.scores.dtype.type(rounded), "right")
    counts = int(groups.predicted[cut]), int(groups.true_positives[cut])
    return Counts(threshold, *counts, groups.positives, groups.total)


def threshold_for(scores: Array, count: int, dtype: torch.dtype) -> float:
    """A threshold that predicts the first `count` of distinct descending scores."""
    nothing = np.zeros(0, dtype=np.int64)
    return float(_between(ScoreGroups(scores, nothing, nothing, dtype), np.array([count]))[0])


def _between(groups: ScoreGroups, cuts: Array) -> Array:
    """A threshold for each cut: midway between the last score predicted and the first that is not.

    It is a number of the scores' own type, and where none lies between two neighbours it is the upper one: right for
    `>=`, as always; `>` agrees wherever something lies between.
    """
    scores = np.concatenate([[np.inf], groups.scores.astype(np.float64), [-np.inf]])
    upper, lower = scores[cuts], scores[cuts + 1]
    info = torch.finfo(groups.dtype)
    step_up = np.where(np.isinf(lower), 0.0, np.maximum(np.abs(lower) * info.eps, info.tiny))
    step_down = np.where(np.isinf(upper), 0.0, np.maximum(np.abs(upper) * info.eps, info.tiny))
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isinf(lower), upper - step_down, upper / 2 + lower / 2)
        middle = np.where(np.isinf(upper), lower + step_up, middle)
    middle[np.isposinf(upper) & np.isneginf(lower)] = 0.0
    rounded = torch.from_numpy(middle).to(groups.dtype).double().numpy()
    return np.where((rounded > lower) & (rounded < upper), rounded, upper)
