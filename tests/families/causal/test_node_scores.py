from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.negentropy import negentropy
from stablelit.families.causal.node_scores import (
    GROWTH_SHARE,
    SCORES,
    EqualVarianceScore,
    GaussianScore,
    NonGaussianScore,
    residual_variance,
)
from stablelit.families.causal.row_statistics import statistics_of_rows
from stablelit.families.causal.sufficient_statistics import SufficientStatistics
from tests.families.causal.all_dags import all_dags, linear_rows, random_graph, random_weights


def _rows(rng, nodes=5, n=200):
    graph = random_graph(rng, nodes)
    return linear_rows(graph, random_weights(rng, nodes), rng.normal(size=(n, nodes))), graph


def _lstsq_residuals(rows, node, parents):
    centred = rows - rows.mean(axis=0)
    if not len(parents):
        return centred[:, node]
    chosen = centred[:, list(parents)]
    return centred[:, node] - chosen @ np.linalg.lstsq(chosen, centred[:, node], rcond=None)[0]


@pytest.mark.parametrize("parents", [(), (0,), (0, 1), (0, 1, 2, 4)])
def test_residual_variances_are_those_of_least_squares_on_the_rows(rng, parents):
    rows, _ = _rows(rng)
    covariance = np.cov(rows.T, bias=True)
    expected = np.mean(_lstsq_residuals(rows, 3, parents) ** 2)
    assert residual_variance(covariance, 3, np.array(parents, dtype=int)) == pytest.approx(expected)


def test_the_gaussian_score_is_a_likelihood_with_a_price(rng):
    rows, _ = _rows(rng)
    score = GaussianScore(statistics_of_rows(rows), penalty=1.5)
    for parents in ((), (1,), (0, 4)):
        residual = _lstsq_residuals(rows, 2, parents)
        expected = 200 * math.log(residual.var() / rows[:, 2].var()) + 1.5 * math.log(200) * len(parents)
        assert score.of_node(2, parents) == pytest.approx(expected)
    assert score.of_graph(np.zeros((5, 5))) == pytest.approx(0.0, abs=1e-9)


def test_the_equal_variance_score_is_a_likelihood_with_a_price(rng):
    rows, graph = _rows(rng, n=4000)
    score = EqualVarianceScore(statistics_of_rows(rows))
    unit = rows.var(axis=0).mean()
    assert score.noise_variance * unit == pytest.approx(1.0, abs=0.1)
    residual = _lstsq_residuals(rows, 2, (0, 1))
    expected = 4000 * residual.var() / (score.noise_variance * unit) + 2 * 2 * math.log(4000)
    assert score.of_node(2, (1, 0)) == pytest.approx(expected)


def test_the_non_gaussian_score_adds_the_negentropy_of_the_residuals(rng):
    graph = random_graph(rng, 5)
    rows = linear_rows(graph, random_weights(rng, 5), rng.laplace(size=(300, 5)))
    statistics = statistics_of_rows(rows)
    plain, score = GaussianScore(statistics), NonGaussianScore(statistics)
    for node, parents in ((1, ()), (2, (0,)), (3, (0, 4))):
        surplus = 2 * 300 * negentropy(_lstsq_residuals(rows, node, parents))
        assert score.of_node(node, parents) == pytest.approx(plain.of_node(node, parents) - surplus)


def test_graphs_of_one_class_have_one_gaussian_score_and_others_another(rng):
    chain = np.eye(3, k=1, dtype=bool)
    rows = linear_rows(chain, random_weights(rng, 3), rng.normal(size=(200, 3)))
    score = GaussianScore(statistics_of_rows(rows))
    chains = [np.zeros((3, 3), dtype=bool) for _ in range(4)]
    for graph, edges in zip(
        chains, ([(0, 1), (1, 2)], [(2, 1), (1, 0)], [(1, 0), (1, 2)], [(0, 1), (2, 1)]), strict=True
    ):
        graph[tuple(zip(*edges, strict=True))] = True
    values = [score.of_graph(graph) for graph in chains]
    assert values[:3] == pytest.approx([values[0]] * 3)
    assert abs(values[3] - values[0]) > 1.0


@pytest.mark.parametrize(("name", "noise"), [("equal_variance", "normal"), ("non_gaussian", "laplace")])
def test_of_all_graphs_of_three_nodes_the_true_one_scores_best(name, noise):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = all_dags(3)[rng.integers(25)]
        rows = linear_rows(truth, random_weights(rng, 3), getattr(rng, noise)(size=(3000, 3)))
        score = SCORES[name](statistics_of_rows(rows))
        best = min(all_dags(3), key=score.of_graph)
        assert (best == truth).all()


@pytest.mark.parametrize("name", ["gaussian", "non_gaussian"])
def test_units_do_not_matter(rng, name):
    graph = random_graph(rng, 4)
    rows = linear_rows(graph, random_weights(rng, 4), rng.laplace(size=(300, 4)))
    factor = 10.0 ** rng.uniform(-3, 3, 4)
    plain, scaled = (SCORES[name](statistics_of_rows(r)) for r in (rows, rows * factor))
    for dag in all_dags(3)[:25:6]:
        wide = np.zeros((4, 4), dtype=bool)
        wide[:3, :3] = dag
        assert scaled.of_graph(wide) == pytest.approx(plain.of_graph(wide), rel=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "equal_variance"])
def test_thresholds_are_where_the_score_is_indifferent(rng, name):
    rows, _ = _rows(rng)
    score = SCORES[name](statistics_of_rows(rows))
    nodes, variance = np.array([0, 3]), np.array([0.4, 0.7])
    here = score.likelihood(nodes, variance)
    drop, rise = score.least_drop(nodes, variance), score.most_rise(nodes, variance)
    assert here - score.likelihood(nodes, variance - drop) == pytest.approx(GROWTH_SHARE * score.price[nodes])
    assert score.likelihood(nodes, variance + rise) - here == pytest.approx(score.price[nodes])


def test_residuals_are_looked_at_where_all_was_observed_and_nothing_was_set(rng):
    rows = rng.normal(size=(30, 3))
    observed, scored = rng.random((30, 3)) > 0.3, rng.random((30, 3)) > 0.2
    statistics = SufficientStatistics(np.cov(rows.T), 30, rows=rows, observed=observed, scored=scored)
    score = NonGaussianScore(statistics)
    kept = observed[:, [2, 0]].all(axis=1) & scored[:, 2]
    assert len(score.residuals(2, (0,))) == kept.sum()
    assert len(score.residuals(1, ())) == (observed[:, 1] & scored[:, 1]).sum()


def test_every_node_is_scored_by_its_own_table_and_rows(rng):
    tables = np.stack([np.cov(rng.normal(size=(50, 3)).T) for _ in range(3)])
    n = np.array([30.0, 50.0, 80.0])
    score = GaussianScore(SufficientStatistics(tables, n))
    for node, parents in ((0, (1, 2)), (1, (0,)), (2, ())):
        alone = GaussianScore(SufficientStatistics(tables[node], n[node]))
        assert score.of_node(node, parents) == pytest.approx(alone.of_node(node, parents))


def test_a_node_that_its_parents_explain_entirely_has_a_finite_score():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows = np.column_stack([rows, rows.sum(axis=1)])
    for name in SCORES:
        assert np.isfinite(SCORES[name](statistics_of_rows(rows)).of_node(2, (0, 1)))


@pytest.mark.parametrize("penalty", [-1.0, math.nan, math.inf, "2"])
def test_a_penalty_is_a_finite_number(penalty):
    with pytest.raises(ConfigurationError, match="GaussianScore: penalty="):
        GaussianScore(SufficientStatistics(np.eye(2), 10), penalty)


def test_second_moments_do_not_tell_the_shape_of_noise():
    with pytest.raises(DataError, match="have no rows"):
        NonGaussianScore(SufficientStatistics(np.eye(2), 10))
