from __future__ import annotations

import doctest
import importlib
import math
import pkgutil

import numpy as np
import pytest
import torch

import stablelit.families.causal.metrics as package
from stablelit.errors import DataError
from stablelit.families.causal.metrics import (
    CPDAGDistance,
    EdgeAUPRC,
    EdgeF1,
    EdgeFalseDiscoveryRate,
    EdgePrecision,
    EdgeRecall,
    StructuralHammingDistance,
    StructuralInterventionDistance,
    graph_scores,
)
from tests.families.causal.metrics.conftest import random_dag

METRICS = {
    "shd": StructuralHammingDistance(),
    "shd_double": StructuralHammingDistance(2),
    "f1": EdgeF1(),
    "skeleton_f1": EdgeF1("skeleton"),
    "precision": EdgePrecision(),
    "recall": EdgeRecall(),
    "fdr": EdgeFalseDiscoveryRate(),
    "cpdag_distance": CPDAGDistance(),
    "sid": StructuralInterventionDistance(),
}


@pytest.mark.slow
def test_it_says_what_the_metrics_say():
    rng = np.random.default_rng(0)
    for _ in range(30):
        predicted, truth = random_dag(rng, 6, 0.4), random_dag(rng, 6, 0.9)
        weights = rng.normal(size=(6, 6))
        values = graph_scores(predicted, truth, weights)
        for name, metric in METRICS.items():
            assert values[name] == pytest.approx(float(metric(predicted, truth)), nan_ok=True), name
        assert values["auprc"] == pytest.approx(float(EdgeAUPRC()(weights, truth)))
        assert values["edge_count"] == predicted.sum()


def test_the_floors_are_the_scores_of_the_empty_and_the_complete_graph():
    truth = random_dag(np.random.default_rng(1), 7, 0.3)
    values = graph_scores(truth, truth, np.ones((7, 7)))
    empty, complete = graph_scores(truth & False, truth), graph_scores(~np.eye(7, dtype=bool), truth)
    assert values["shd_empty"] == empty["shd"] == empty["cpdag_distance"] == truth.sum()
    assert values["f1_all"] == pytest.approx(complete["f1"])
    assert values["sid_empty"] == empty["sid"]
    assert values["prevalence"] == values["auprc"] == pytest.approx(truth.sum() / 42)
    assert math.isnan(empty["precision"])
    assert math.isnan(empty["fdr"])
    assert empty["f1"] == 0


def test_cycles_leave_undefined_what_they_leave_undefined():
    cycle, chain = np.array([[0, 1], [1, 0]]), np.array([[0, 1], [0, 0]])
    values = graph_scores(cycle, chain)
    assert (values["is_dag"], values["shd"], values["sid_empty"]) == (0, 1, 1)
    assert math.isnan(values["cpdag_distance"])
    assert math.isnan(values["sid"])
    of_a_cyclic_truth = graph_scores(chain, cycle)
    assert of_a_cyclic_truth["is_dag"] == of_a_cyclic_truth["shd"] == 1
    assert math.isnan(of_a_cyclic_truth["sid_empty"])
    assert not math.isnan(graph_scores(chain, chain)["sid"])


def test_it_is_plain_numbers():
    chain = torch.tensor([[0, 1], [0, 0]])
    assert all(type(value) is float for value in graph_scores(chain, chain, chain.float()).values())
    assert "auprc" not in graph_scores(chain, chain)


def test_several_graphs_are_refused():
    with pytest.raises(DataError, match="graph_scores: there are 2 graphs. Allowed: one"):
        graph_scores(torch.zeros(2, 3, 3), torch.zeros(3, 3))


def test_the_examples_in_the_docstrings_hold():
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        assert doctest.testmod(importlib.import_module(module.name)).failed == 0, module.name
