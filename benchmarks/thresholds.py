"""The exact threshold: its cost beside torchmetrics, that it is exact, what a grid misses, and what chance reaches.

Scores are random numbers: toy data, no statement about a model. Speeds are ratios of runs in turn in one process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_f1_score, binary_precision_recall_curve

from benchmarks.order_peers import paired, seconds
from benchmarks.rows import Row, run
from stablelit.callbacks._threshold_choice import ThresholdChoice
from stablelit.callbacks._threshold_measure import measure
from stablelit.callbacks._threshold_samples import Rows, Samples
from stablelit.functional.score_groups import group_scores
from stablelit.functional.threshold_baselines import _null_draws, tuned_null
from stablelit.functional.thresholds import sweep

MILLION = 10**6
SEEDS = (0, 1, 2)
REPEATS = 5
SENSORS, EDGES = 13, 13
CANDIDATES = SENSORS * (SENSORS - 1)


def scored(seed: int, n: int = MILLION) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities that are informative, 30 % positive."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < 0.3).long()
    return torch.sigmoid(torch.randn(n, generator=generator) + 1.5 * labels - 1.0), labels


def grid_passes(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return max(float(binary_f1_score(scores, labels, threshold=t)) for t in np.linspace(0, 1, 21).tolist())


def exact_curve(scores: torch.Tensor, labels: torch.Tensor) -> float:
    precision, recall, _ = binary_precision_recall_curve(scores, labels)
    return float(torch.nan_to_num(2 * precision * recall / (precision + recall)).max())


def speed_rows() -> Iterator[Row]:
    data = [scored(seed) for seed in SEEDS]

    def against(peer: Callable[..., Any], ours: Callable[..., Any] = sweep) -> tuple[float, float, float]:
        runs = [paired(partial(peer, *pair), partial(ours, *pair), REPEATS) for pair in data]
        return tuple(statistics.median(column) for column in zip(*runs, strict=True))  # type: ignore[return-value]

    n = len(SEEDS) * REPEATS
    theirs, ours, ratio = against(grid_passes)
    yield Row("1M scores: 21 torchmetrics F1 passes over one sweep", ratio, "x", 10, "higher", repeats=n)
    yield Row("    time", 1e3 * ours, "ms", None, "lower", "21 passes", 1e3 * theirs, n)
    theirs, ours, ratio = against(exact_curve)
    yield Row("    torchmetrics' exact curve and its best F1 over one sweep", ratio, "x", 3, "higher", repeats=n)
    yield Row("        time", 1e3 * ours, "ms", None, "lower", "torchmetrics", 1e3 * theirs, n)
    _, _, ratio = against(lambda s, y: binary_precision_recall_curve(s, y))
    yield Row("        without looking for the best on the curve", ratio, "x", repeats=n)
    _, _, ratio = against(grid_passes, lambda s, y: sweep(torch.logit(s), y))
    yield Row("    21 passes over a sweep of logits, both signs", ratio, "x", None, "higher", repeats=n)
    _, _, ratio = against(grid_passes, lambda s, y: sweep(s.double(), y))
    yield Row("    21 passes over a sweep of float64", ratio, "x", None, "higher", repeats=n)
    theirs, ours, ratio = against(grid_passes, partial(everything, first=True))
    yield Row("    21 passes over all that the callback logs", ratio, "x", 1, "higher", repeats=n)
    yield Row("        time", 1e3 * ours, "ms", repeats=n)
    same = max(abs(sweep(*pair)[1].f_beta() - exact_curve(*pair)) for pair in data)
    yield Row("    difference of the best F1 from torchmetrics' curve (float32)", same, "", 1e-5, repeats=len(SEEDS))


CHOICE = ThresholdChoice("benchmark", "f1", "micro", 1.0, None, 0.5, None, 1, 2.0, None, 0.75)


def everything(scores: torch.Tensor, labels: torch.Tensor, first: bool = False) -> dict[str, float]:
    """Threshold, cross-fit, AUPRC, null and interval; at a `first` validation the null is drawn."""
    if first:
        _null_draws.cache_clear()
    rows = Rows(scores[:, None], labels[:, None], np.arange(len(scores)), clustered=False)
    return measure(CHOICE, Samples.of_rows([rows], "benchmark", split=True)).values


def two_loops(scores: list[float], labels: list[bool]) -> tuple[int, int]:
    best, found = Fraction(-1), (0, 0)
    for threshold in [float("inf"), *sorted(set(scores), reverse=True)]:
        predicted = right = 0
        for score, label in zip(scores, labels, strict=True):
            predicted += score >= threshold
            right += score >= threshold and label
        value = Fraction(2 * right, predicted + sum(labels))
        if value > best:
            best, found = value, (predicted, right)
    return found


def exactness_rows(cases: int = 10_000) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    wrong = unlike = 0
    for case in range(cases):
        n = int(rng.integers(1, 16))
        tied = case % 4 != 0
        scores = rng.integers(-4, 5, n) / 4 if tied else rng.normal(size=n)
        scores = scores.astype(np.float32 if case % 2 else np.float64)
        labels = rng.random(n) < 0.4
        labels[rng.integers(n)] = True
        best = sweep(scores, labels)[1]
        wrong += (best.predicted, best.true_positives) != two_loops(scores.tolist(), labels.tolist())
        tensor = torch.from_numpy(scores)
        unlike += int((tensor >= best.threshold).sum()) != best.predicted
        unlike += int((tensor > best.threshold).sum()) != best.predicted
    yield Row("random cases with ties: other optimum than two loops", wrong, "", 0, repeats=cases)
    yield Row("    threshold that > or >= counts otherwise", unlike, "", 0, repeats=cases)


def edges(scale: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Candidate edges whose scores say something: half-normal, larger where the edge is true."""
    labels = rng.permutation(np.arange(CANDIDATES) < EDGES)
    strength = np.abs(rng.normal(size=CANDIDATES)) * np.where(labels, 2.5, 1.0)
    return scale(strength).astype(np.float32), labels


def grid_rows(draws: int = 500) -> Iterator[Row]:
    scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "|W| about 0.3": lambda s: 0.3 * s,
        "|W| about 0.03": lambda s: 0.03 * s,
        "|W| about 0.003": lambda s: 0.003 * s,
        "sigmoid near 0.5": lambda s: 1 / (1 + np.exp(-0.1 * s)),
    }
    complete = 2 * EDGES / (CANDIDATES + EDGES)
    for name, scale in scales.items():
        exact, grid, missed = [], [], 0
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            for _ in range(draws):
                scores, labels = edges(scale, rng)
                best, on_grid = sweep(scores, labels)[1].f_beta(), sweep(scores, labels, grid=21)[1].f_beta()
                exact.append(best)
                grid.append(on_grid)
                missed += on_grid < best
        n = len(exact)
        beside = ("best of all", float(np.mean(exact)))
        yield Row(
            f"13 of 156 edges, {name}: best F1 of linspace(0, 1, 21)",
            float(np.mean(grid)),
            "",
            None,
            "higher",
            *beside,
            n,
        )
        yield Row("    draws in which it misses the best", 100 * missed / n, "%", repeats=n)
    yield Row("    F1 of the complete graph", complete, "")


def chance_rows() -> Iterator[Row]:
    means, tops, told = [], [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        tuned = [sweep(rng.random(CANDIDATES), rng.permutation(CANDIDATES) < EDGES)[1].f_beta() for _ in range(2000)]
        means.append(float(np.mean(tuned)))
        tops.append(float(np.quantile(tuned, 0.95)))
        told.append(tuned_null([group_scores(rng.random(CANDIDATES), np.arange(CANDIDATES) < EDGES)]))
    beside = ("f1_null", statistics.median(null.mean for null in told))
    yield Row("noise, 13 of 156: tuned F1, mean", statistics.median(means), "", None, "lower", *beside, len(SEEDS))
    beside = ("f1_null_q95", statistics.median(null.q95 for null in told))
    yield Row("    95 % quantile", statistics.median(tops), "", None, "lower", *beside, len(SEEDS))
    worst = max(abs(mean - null.mean) for mean, null in zip(means, told, strict=True))
    yield Row("    largest distance of f1_null from the mean", worst, "", 0.02, repeats=len(SEEDS))
    honest = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        values = []
        for _ in range(200):
            scores, labels = rng.random(CANDIDATES), rng.permutation(CANDIDATES) < EDGES
            values.append(everything(torch.from_numpy(scores), torch.from_numpy(labels))["f1"])
        honest.append(float(np.nanmean(values)))
    beside = ("everything", 2 * EDGES / (CANDIDATES + EDGES))
    yield Row(
        "    cross-fitted F1 of the same noise", statistics.median(honest), "", None, "lower", *beside, len(SEEDS)
    )
    groups = group_scores(*scored(0))

    def null() -> None:
        _null_draws.cache_clear()
        tuned_null([groups])

    times = [1e3 * seconds(null) for _ in range(REPEATS)]
    yield Row("f1_null of 1M scores, 200 shuffles: first time", statistics.median(times), "ms", repeats=REPEATS)


def rows() -> Iterator[Row]:
    yield from speed_rows()
    yield from exactness_rows()
    yield from grid_rows()
    yield from chance_rows()


if __name__ == "__main__":
    raise SystemExit(run("thresholds", rows()))
