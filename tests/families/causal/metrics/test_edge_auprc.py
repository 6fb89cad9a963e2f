from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from stablelit.errors import DataError
from stablelit.families.causal.metrics import EdgeAUPRC
from tests.families.causal.metrics.conftest import random_dag


def steps(scores, truth):
    """Recall's steps times precision, threshold by threshold."""
    pairs = [(scores[i, j], truth[i, j]) for i in range(len(truth)) for j in range(len(truth)) if i != j]
    area = recall = 0.0
    for threshold in sorted({score for score, _ in pairs}, reverse=True):
        chosen = [true for score, true in pairs if score >= threshold]
        now = sum(chosen) / truth.sum()
        area += (now - recall) * sum(chosen) / len(chosen)
        recall = now
    return area


def test_it_is_the_sum_of_the_steps_with_ties_as_one():
    rng = np.random.default_rng(0)
    for case in range(60):
        nodes = int(rng.integers(2, 7))
        truth = random_dag(rng, nodes)
        truth[0, 1], truth[1, 0] = True, False
        scores = rng.normal(size=(nodes, nodes)) if case % 2 else rng.integers(-2, 3, (nodes, nodes)) * 0.5
        assert float(EdgeAUPRC()(scores, truth)) == pytest.approx(steps(scores, truth))


def test_it_is_torchmetrics_number_where_that_does_not_squash():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 9, generator=generator)
    truth = torch.from_numpy(random_dag(np.random.default_rng(0), 9, 0.4))
    off = ~torch.eye(9, dtype=torch.bool)
    theirs = binary_average_precision(scores[off], truth[off].long())
    assert float(EdgeAUPRC()(scores, truth)) == pytest.approx(float(theirs), rel=1e-6)


def test_scores_of_any_size_are_taken_as_they_are():
    truth = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    # squashed by a sigmoid in float32, the two largest would be equal
    scores = torch.tensor([[math.nan, 90.0, 80.0], [-5.0, 0.0, 0.0], [0.0, 0.0, math.inf]])
    assert float(EdgeAUPRC()(scores, truth)) == 1.0


def test_constant_scores_have_the_prevalence():
    truth = random_dag(np.random.default_rng(1), 8, 0.3)
    assert float(EdgeAUPRC()(np.ones((8, 8)), truth)) == pytest.approx(truth.sum() / 56)


def test_it_is_the_mean_over_graphs_that_have_edges_and_the_others_are_counted():
    truth = np.zeros((3, 2, 2))
    truth[0, 0, 1] = truth[1, 0, 1] = 1
    scores = np.broadcast_to(np.array([[0.0, 2.0], [1.0, 0.0]]), (3, 2, 2)).copy()
    scores[1] = scores[1].T
    metric = EdgeAUPRC()
    metric.update(scores, truth)
    assert float(metric.compute()) == (1 + 1 / 2) / 2
    assert int(metric.without_edges) == 1
    assert math.isnan(EdgeAUPRC()(scores, truth * 0))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (torch.full((2, 2), math.nan), torch.zeros(2, 2), "2 of 4 are NaN"),
        (torch.zeros(2, 2), torch.eye(2), "self-loops"),
        (torch.zeros(2, 2), torch.zeros(3, 3), "allowed: the same shape"),
        (torch.zeros(2, 2), torch.full((2, 2), 0.5), "neither 0 nor 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores, truth, message):
    with pytest.raises(DataError, match=message):
        EdgeAUPRC().update(scores, truth)
    with pytest.raises(DataError, match="no graph was given"):
        EdgeAUPRC().compute()
