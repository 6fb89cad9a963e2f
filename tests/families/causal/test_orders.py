from __future__ import annotations

import itertools

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.orders import (
    checked_order,
    equal_variance_order,
    lingam_order,
    order_of,
    r2_order,
    random_orders,
    variance_order,
)
from tests.families.causal.all_dags import all_dags, linear_rows, random_graph, random_weights


def _follows(order, graph):
    place = np.argsort(order)
    return all(place[i] < place[j] for i, j in np.argwhere(graph))


def test_equal_noise_gives_the_order_of_an_exact_covariance_away(rng):
    for _ in range(20):
        graph, weights = random_graph(rng, 8), random_weights(rng, 8)
        mixing = np.linalg.inv(np.eye(8) - np.where(graph, weights, 0.0))
        order, conditional = equal_variance_order(3.0 * mixing.T @ mixing)
        assert _follows(order, graph)
        assert conditional == pytest.approx(3.0)


def test_conditional_variances_are_those_of_regressions(rng):
    covariance = np.cov(rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)), rowvar=False)
    order, conditional = equal_variance_order(covariance)
    for step, node in enumerate(order):
        before = order[:step]
        slopes = np.linalg.solve(covariance[np.ix_(before, before)], covariance[before, node])
        assert conditional[step] == pytest.approx(covariance[node, node] - covariance[node, before] @ slopes)


def test_one_table_for_all_is_as_one_for_each(rng):
    covariance = np.cov(rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rowvar=False)
    first, second = equal_variance_order(covariance), equal_variance_order(np.stack([covariance] * 4))
    assert first[0].tolist() == second[0].tolist()
    assert first[1] == pytest.approx(second[1])


def test_collinear_columns_have_an_order():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    order, conditional = equal_variance_order(np.cov(np.column_stack([rows, rows.sum(axis=1), rows[:, 0]]).T))
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert np.isfinite(conditional).all()


@pytest.mark.parametrize("noise", ["laplace", "uniform", "exponential"])
def test_direct_lingam_finds_the_order_in_any_units(noise):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, 6)
        rows = linear_rows(graph, random_weights(rng, 6), getattr(rng, noise)(size=(4000, 6)))
        order = lingam_order(rows)
        assert _follows(order, graph)
        assert lingam_order(rows * 10.0 ** rng.uniform(-3, 3, 6) + 5).tolist() == order.tolist()


def test_direct_lingam_of_two_columns_is_the_likelihood_ratio_written_out(rng):
    def entropy(u):
        u = (u - u.mean()) / u.std()
        return -79.047 * (np.log(np.cosh(u)).mean() - 0.37457) ** 2 - 7.4129 * (u * np.exp(-(u**2) / 2)).mean() ** 2

    for _ in range(10):
        rows = rng.laplace(size=(60, 2)) @ np.array([[1.0, rng.normal()], [0.0, 1.0]])
        x, y = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).T
        rho = (x * y).mean()
        ratio = entropy(y) + entropy(x - rho * y) - entropy(x) - entropy(y - rho * x)
        assert lingam_order(rows).tolist() == ([0, 1] if ratio > 0 else [1, 0])


def test_required_edges_come_first_in_every_order(rng):
    knowledge = EdgeKnowledge.nothing(5)
    knowledge = EdgeKnowledge(knowledge.names, required=[(4, 0), (3, 4)])
    rows = rng.laplace(size=(100, 5)) * [1, 2, 3, 4, 5]
    for order in (equal_variance_order(np.cov(rows.T), knowledge)[0], lingam_order(rows, knowledge)):
        assert _follows(order, knowledge.required)


def test_a_column_that_another_explains_entirely_has_a_place(rng):
    rows = rng.laplace(size=(200, 2))
    assert sorted(lingam_order(np.column_stack([rows, 2 * rows[:, 0]])).tolist()) == [0, 1, 2]


def test_rows_that_cannot_be_ordered_are_told(rng):
    with pytest.raises(DataError, match="column 1 does not vary"):
        lingam_order(np.column_stack([rng.normal(size=9), np.ones(9)]))
    with pytest.raises(DataError, match="finite"):
        lingam_order(np.array([[1.0, np.nan], [2.0, 3.0]]))


def test_r2_rises_along_its_order_in_any_units(rng):
    rows = rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5))
    order = r2_order(np.cov(rows.T))
    centred = rows - rows.mean(axis=0)
    r2 = []
    for node in order:
        others = np.delete(centred, node, axis=1)
        left = centred[:, node] - others @ np.linalg.lstsq(others, centred[:, node], rcond=None)[0]
        r2.append(1 - left.var() / centred[:, node].var())
    assert (np.diff(r2) > 0).all()
    assert r2_order(np.cov((rows * 10.0 ** rng.uniform(-3, 3, 5)).T)).tolist() == order.tolist()


def test_variance_rises_along_its_order():
    assert variance_order(np.diag([3.0, 1.0, 2.0])).tolist() == [1, 2, 0]


def test_random_orders_are_permutations_by_seed():
    first, second = (random_orders(6, 3, np.random.default_rng(1)) for _ in range(2))
    assert np.array(first).tolist() == np.array(second).tolist()
    assert all(sorted(order.tolist()) == list(range(6)) for order in first)


def test_every_graph_of_four_nodes_has_an_order_of_its_own_edges(rng):
    for graph in all_dags(4):
        assert _follows(order_of(graph), graph)
        assert _follows(order_of(graph * rng.normal(size=(4, 4))), graph)


def test_the_smallest_weights_of_a_cycle_give_way():
    weights = np.array([[9.0, 2.0, 0.0], [0.0, 9.0, -3.0], [0.5, 0.0, 9.0]])
    assert order_of(weights).tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0.0, 1.0, 2.0], [1, 2, 3], "abc"])
def test_what_is_no_order_is_told(order):
    with pytest.raises(ConfigurationError, match=r"polish: starts=.*nodes 0 to 2"):
        checked_order("polish", "starts", order, 3)


def test_orders_of_any_integer_type_are_taken():
    for order in itertools.permutations(range(3)):
        assert checked_order("polish", "starts", np.array(order, dtype=np.uint8), 3).tolist() == list(order)
