from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from stablelit.errors import DataError
from stablelit.families.causal.metrics import (
    CPDAGDistance,
    EdgeF1,
    EdgeFalseDiscoveryRate,
    EdgePrecision,
    EdgeRecall,
    StructuralHammingDistance,
    StructuralInterventionDistance,
)
from tests.families.causal.metrics.conftest import random_dag

METRICS = [
    StructuralHammingDistance,
    EdgeF1,
    EdgePrecision,
    EdgeRecall,
    EdgeFalseDiscoveryRate,
    CPDAGDistance,
    StructuralInterventionDistance,
]
every_metric = pytest.mark.parametrize("kind", METRICS, ids=lambda kind: kind.__name__)


def graphs(n=6, nodes=5, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(np.stack([random_dag(rng, nodes, 0.5) for _ in range(n)]) for _ in range(2))


@every_metric
def test_graphs_in_one_batch_in_several_and_one_by_one_are_the_same(kind):
    predicted, truth = graphs()
    values = []
    for parts in ([slice(0, 6)], [slice(4, 6), slice(0, 4)], range(6)):
        metric = kind()
        for part in parts:
            metric.update(predicted[part], truth[part])
        values.append(float(metric.compute()))
    assert values[0] == values[1] == values[2]
    assert 0 < values[0] == values[0]


@every_metric
def test_ranks_add_up(kind):
    predicted, truth = graphs()
    whole, ranks = kind(), [kind(), kind()]
    whole.update(predicted, truth)
    for start, metric in enumerate(ranks):
        metric.update(predicted[start::2], truth[start::2])
    for name, reduce in ranks[0]._reductions.items():
        setattr(ranks[0], name, reduce(torch.stack([getattr(metric, name) for metric in ranks])))
    ranks[0]._computed = None
    assert torch.equal(ranks[0].compute(), whole.compute())


@every_metric
def test_bool_and_numbers_tensors_and_arrays_are_the_same(kind):
    predicted, truth = graphs()
    values = set()
    for form in (
        lambda g: g,
        lambda g: g.astype(np.int64),
        torch.from_numpy,
        lambda g: torch.from_numpy(g).float(),
        lambda g: torch.from_numpy(g).bfloat16(),
    ):
        values.add(float(kind()(form(predicted), form(truth))))
    assert len(values) == 1


@every_metric
def test_one_true_graph_serves_many_predictions(kind):
    predicted, truth = graphs()
    repeated = np.broadcast_to(truth[0], truth.shape)
    assert float(kind()(predicted, truth[0])) == float(kind()(predicted, repeated))


@every_metric
def test_a_reset_forgets_and_a_pickle_remembers(kind):
    predicted, truth = graphs()
    metric = kind()
    metric.update(predicted, truth)
    assert torch.equal(pickle.loads(pickle.dumps(metric)).compute(), metric.compute())
    metric.reset()
    metric.update(truth, truth)
    assert float(metric.compute()) == float(kind()(truth, truth))


def test_a_collection_joins_no_metrics_that_differ_later():
    # torchmetrics joins those whose states are equal after the first graphs: give it graphs on which all agree
    kinds = {
        "shd": StructuralHammingDistance,
        "shd_double": lambda: StructuralHammingDistance(2),
        "f1": EdgeF1,
        "skeleton_f1": lambda: EdgeF1("skeleton"),
        "precision": EdgePrecision,
        "fdr": EdgeFalseDiscoveryRate,
        "cpdag": CPDAGDistance,
        "sid": StructuralInterventionDistance,
        "ancestors": lambda: StructuralInterventionDistance("ancestors"),
    }
    collection, alone = MetricCollection({name: kind() for name, kind in kinds.items()}), {}
    (predicted, truth), same = graphs(), np.eye(5, k=1, dtype=bool)
    collection.update(same, same)
    collection.update(predicted, truth)
    for name, kind in kinds.items():
        metric = kind()
        metric.update(same, same)
        metric.update(predicted, truth)
        alone[name] = float(metric.compute())
    assert {name: float(value) for name, value in collection.compute().items()} == alone
    assert len(set(alone.values())) == len(alone)


@every_metric
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_graphs_there_is_no_value(kind):
    with pytest.raises(DataError, match=f"{kind.__name__}: no graph was given"):
        kind().compute()


@every_metric
@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (torch.tensor([[0.0, float("nan")], [0, 0]]), torch.zeros(2, 2), r"predicted edges: 1 of 4 are NaN.*\(0, 1\)"),
        (torch.zeros(2, 2), torch.tensor([[0.0, float("nan")], [0, 0]]), "true edges: 1 of 4 are NaN"),
        (
            torch.tensor([[0.0, 0.7], [0, 0]]),
            torch.zeros(2, 2),
            r"1 entries are neither .* first at \(0, 1\)",
        ),
        (torch.zeros(2, 2), -torch.eye(2).flip(0), "neither 0 nor 1.*weights != 0"),
        (torch.eye(2), torch.zeros(2, 2), "predicted edges: 2 self-loops, the first at node 0"),
        (torch.zeros(2, 2), torch.diag(torch.tensor([0, 1])), "true edges: 1 self-loops, the first at node 1"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "have shape"),
        (torch.zeros(4), torch.zeros(4), "have shape"),
        (torch.zeros(1, 1), torch.zeros(1, 1), "d of 2 or more"),
        (torch.zeros(3, 3), torch.zeros(2, 2), "1 predicted graphs of 3 nodes and 1 true graphs of 2 nodes"),
        (torch.zeros(3, 2, 2), torch.zeros(2, 2, 2), "3 predicted graphs of 2 nodes and 2 true graphs"),
        (torch.zeros(2, 2), torch.zeros(3, 2, 2), "one true graph or as many as predictions"),
    ],
)
def test_what_is_no_graph_is_refused(kind, predicted, truth, message):
    metric = kind()
    with pytest.raises(DataError, match=f"{kind.__name__}: .*{message}"):
        metric.update(predicted, truth)
    assert int(metric.graphs) == 0


@every_metric
def test_the_convention_is_from_row_to_column(kind):
    # 0 -> 1 <- 2 against 0 <- 1 -> 2: transposing one of them makes them equal
    collider = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    same, other = (float(kind()(graph, collider)) for graph in (collider, collider.T))
    assert same != other
