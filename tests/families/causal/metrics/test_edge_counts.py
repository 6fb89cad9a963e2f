from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.metrics import EdgeF1, EdgeFalseDiscoveryRate, EdgePrecision, EdgeRecall
from tests.families.causal.metrics.conftest import edges_of, random_dag

METRICS = (EdgePrecision, EdgeRecall, EdgeFalseDiscoveryRate, EdgeF1)


def sets(predicted, truth, kind):
    both = [set(edges_of(graph)) for graph in (predicted, truth)]
    return both if kind == "directed" else [{frozenset(edge) for edge in edges} for edges in both]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directed", "skeleton"])
def test_they_are_ratios_of_sets_of_edges(kind):
    rng = np.random.default_rng(0)
    for _ in range(100):
        nodes = int(rng.integers(2, 7))
        # the prediction may join a pair both ways
        predicted, truth = random_dag(rng, nodes) | random_dag(rng, nodes), random_dag(rng, nodes)
        mine, true = sets(predicted, truth, kind)
        right = len(mine & true)
        expected = [
            right / len(mine) if mine else math.nan,
            right / len(true) if true else math.nan,
            len(mine - true) / len(mine) if mine else math.nan,
            2 * right / (len(mine) + len(true)) if true else math.nan,
        ]
        found = [float(metric(kind)(predicted, truth)) for metric in METRICS]
        assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_the_directed_f1_of_oriented_graphs_is_never_above_the_skeletons():
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(300):
        nodes = int(rng.integers(2, 9))
        predicted, truth = random_dag(rng, nodes), random_dag(rng, nodes)
        truth[0, 1], truth[1, 0] = True, False
        gaps.append(float(EdgeF1("skeleton")(predicted, truth)) - float(EdgeF1()(predicted, truth)))
    assert min(gaps) >= 0
    assert max(gaps) > 0


def test_the_complete_graph_has_the_f1_of_the_prevalence():
    truth = random_dag(np.random.default_rng(2), 13, 0.2)
    prevalence = truth.sum() / (13 * 12)
    assert float(EdgeF1()(~np.eye(13, dtype=bool), truth)) == pytest.approx(2 * prevalence / (1 + prevalence))


def test_the_post_mortems_graph_is_what_it_printed():
    # 16 predicted edges of which one is true, 13 true ones: F1 2/29
    truth = np.zeros((13, 13), dtype=bool)
    truth[np.arange(12), np.arange(1, 13)] = True
    truth[0, 2] = True
    predicted = np.zeros_like(truth)
    predicted[0, 1] = True
    predicted[np.arange(5, 13).repeat(2)[:15], np.tile([0, 1], 8)[:15]] = True
    assert float(EdgeF1()(predicted, truth)) == pytest.approx(2 / 29)
    assert float(EdgePrecision()(predicted, truth)) == 1 / 16
    assert float(EdgeRecall()(predicted, truth)) == pytest.approx(1 / 13)


def test_counts_of_several_graphs_are_added_before_the_ratio():
    a, b = np.zeros((2, 3, 3), dtype=bool), np.zeros((2, 3, 3), dtype=bool)
    a[0, 0, 1] = b[0, 0, 1] = True
    a[1] = np.triu(np.ones((3, 3)), 1)
    assert float(EdgePrecision()(a, b)) == 1 / 4
    assert float(EdgeRecall()(a, b)) == 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigurationError, match="EdgeF1: kind='orientation' is not allowed.*directed or skeleton"):
        EdgeF1("orientation")
