"""What ThresholdSweepValidation logs of per-sample scores: the threshold, an honest score, and what is beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from stablelit.callbacks._threshold_choice import Outcome, ThresholdChoice
from stablelit.callbacks._threshold_samples import Rows, Samples
from stablelit.functional.multilabel_thresholds import (
    average_f_beta,
    average_of,
    counts_of,
    cross_fit,
    in_first_half,
)
from stablelit.functional.score_groups import Array, ScoreGroups
from stablelit.functional.threshold_baselines import all_positive_f_beta, average_precision, bootstrap_interval
from stablelit.functional.thresholds import Counts, threshold_curve


def measure(choice: ThresholdChoice, samples: Samples) -> Outcome:
    """Chooses a threshold on an evaluation and measures it.

    Where the labels decide, the score on the same samples is `oracle_f1`, and `f1` is cross-fitted: the threshold of
    each half is judged on the other. Where they do not, `f1` is the score.
    """
    name, labels = choice.score_name, samples.labels
    thresholds = choice.fit(labels)
    counts = counts_of(labels, thresholds)
    values = _threshold_values(choice, thresholds)
    score = average_f_beta(counts, choice.beta)
    if choice.needs_truth:
        judged = cross_fit((samples.first, samples.second), choice.fit)
        values[f"oracle_{name}"] = score
        values[name] = average_f_beta(judged, choice.beta)
        pair = choice.fit(samples.second), choice.fit(samples.first)
    else:
        judged, pair = counts, (thresholds, thresholds)
        values[name] = score
    values.update(_interval(choice, samples, judged, pair))
    values.update(_beside(choice, labels, counts))
    null = choice.null(labels, counts)
    fixed = counts_of(labels, [choice.fixed] * len(labels))
    values[f"{name}_fixed"] = average_f_beta(fixed, choice.beta)
    values[f"{name}_null"], values[f"{name}_null_q95"] = null
    totals = [sum(c.predicted for c in counts), sum(g.total for g in labels), sum(g.positives for g in labels)]
    facts = dict(zip(("predicted", "total", "positives"), map(float, totals), strict=True))
    facts.update(distinct=max(len(g.scores) for g in labels), score=score, null_q95=null.q95)
    curve = threshold_curve(labels[0], choice.grid) if len(labels) == 1 else None
    return Outcome(thresholds, values, name, curve, facts)


def measure_at(choice: ThresholdChoice, samples: Samples, thresholds: Sequence[float]) -> Outcome:
    """Measures thresholds that were chosen elsewhere."""
    name, counts = choice.score_name, counts_of(samples.labels, thresholds)
    values = {name: average_f_beta(counts, choice.beta)}
    values.update(_interval(choice, samples, counts, (thresholds, thresholds)))
    values.update(_beside(choice, samples.labels, counts))
    return Outcome(list(thresholds), values, name)


def _threshold_values(choice: ThresholdChoice, thresholds: Sequence[float]) -> dict[str, float]:
    if choice.average != "per-label":
        return {"best": thresholds[0]}
    defined = [t for t in thresholds if not math.isnan(t)] or [math.nan]
    return {"best_min": min(defined), "best_max": max(defined)}


def _beside(choice: ThresholdChoice, labels: Sequence[ScoreGroups], counts: Sequence[Counts]) -> dict[str, float]:
    positives, total = sum(g.positives for g in labels), sum(g.total for g in labels)
    return {
        "precision": average_of(counts, lambda c: c.precision if c.positives else math.nan),
        "recall": average_of(counts, lambda c: c.recall),
        "auprc": average_of(labels, average_precision),
        "prevalence": positives / total,
        f"{choice.score_name}_all": average_of(
            labels, lambda groups: all_positive_f_beta(groups.positives, groups.total, choice.beta)
        ),
    }


def _interval(
    choice: ThresholdChoice, samples: Samples, counts: Sequence[Counts], pair: tuple[Sequence[float], Sequence[float]]
) -> dict[str, float]:
    """The interval over units of the score, where there is one label: `pair` judges the first and the second half.

    Of groups of samples it needs every sample: where they were thinned, it is NaN.
    """
    if len(counts) != 1:
        return {}
    low = high = math.nan
    if counts[0].positives and not samples.clustered:
        low, high = bootstrap_interval(*_four_kinds(counts[0]), choice.beta)
    elif counts[0].positives and samples.rows is not None:
        low, high = bootstrap_interval(_counts_of_units(samples.rows, pair), None, choice.beta)
    return {f"{choice.score_name}_low": low, f"{choice.score_name}_high": high}


def _four_kinds(counts: Counts) -> tuple[Array, Array]:
    """Samples that are right, false, missed and rightly left out, and how many there are of each."""
    right, false = counts.true_positives, counts.predicted - counts.true_positives
    missed = counts.positives - right
    kinds = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    return kinds, np.array([right, false, missed, counts.total - right - false - missed])


def _counts_of_units(rows: Rows, pair: tuple[Sequence[float], ...]) -> Array:
    scores, targets, units, _ = rows
    distinct, places = np.unique(units, return_inverse=True)
    first, (there, back) = torch.from_numpy(in_first_half(units)), (p[0] for p in pair)
    predicted = torch.where(first, scores[:, 0] >= there, scores[:, 0] >= back).numpy()
    labels = targets[:, 0].bool().numpy()
    columns = [np.bincount(places, column, len(distinct)) for column in (predicted & labels, predicted, labels)]
    return np.stack(columns, axis=1).astype(np.int64)
