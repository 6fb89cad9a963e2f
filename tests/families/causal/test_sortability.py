from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.graphs import random_dag
from stablelit.families.causal.sem import SyntheticSEM
from stablelit.families.causal.sortability import (
    order_agreement,
    r2_scores,
    r2_sortability,
    regress_in_order,
    sort_and_regress,
    varsortability,
)


def by_enumeration(scores: np.ndarray, graph: np.ndarray) -> float:
    """The definition, path by path: every pair once for each length at which a path joins it."""
    nodes = range(len(graph))
    joined = {
        (length, path[0], path[-1])
        for length in range(1, len(graph))
        for path in permutations(nodes, length + 1)
        if all(graph[a, b] for a, b in pairwise(path))
    }
    value = [(scores[i] < scores[j]) + 0.5 * (scores[i] == scores[j]) for _, i, j in joined]
    return float(np.mean(value)) if value else float("nan")


@pytest.mark.parametrize("seed", range(25))
def test_agreement_is_the_enumeration_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    graph = random_dag(6, rng, edges=int(rng.integers(1, 13)))
    # few different scores, so that there are ties
    scores = rng.integers(0, 4, 6).astype(float)
    assert order_agreement(scores, graph) == pytest.approx(by_enumeration(scores, graph))


def test_a_chain_that_rises_is_one_that_falls_is_zero_and_one_that_is_flat_a_half():
    chain = np.eye(4, k=1)
    assert order_agreement(np.array([1.0, 2.0, 3.0, 4.0]), chain) == 1.0
    assert order_agreement(np.array([4.0, 3.0, 2.0, 1.0]), chain) == 0.0
    assert order_agreement(np.ones(4), chain) == 0.5


def test_no_edge_is_no_number():
    assert np.isnan(order_agreement(np.arange(3.0), np.zeros((3, 3))))


def test_varsortability_sees_variances_and_standardising_hides_them():
    draw = SyntheticSEM(nodes=12, rows=400, seed=0).draw()
    values, truth = draw.panel.values, draw.panel.truth
    assert varsortability(values, truth) == pytest.approx(by_enumeration_small(values.var(axis=0), truth))
    assert varsortability(values / values.std(axis=0), truth) == 0.5
    scale = 10.0 ** np.arange(12)
    assert varsortability(values * scale, truth) != pytest.approx(varsortability(values, truth), abs=0.05)


def by_enumeration_small(scores: np.ndarray, graph: np.ndarray) -> float:
    """The same by powers of the graph's path counts, which for 12 nodes is quicker than permutations."""
    total = agreeing = 0.0
    counts = graph.astype(int)
    for _ in range(len(graph) - 1):
        for i, j in np.argwhere(counts > 0):
            total += 1
            agreeing += scores[i] < scores[j]
        counts = counts @ graph
    return agreeing / total


def test_r2_is_that_of_a_regression_on_all_others_and_survives_standardising():
    draw = SyntheticSEM(nodes=6, rows=500, seed=1).draw()
    values = draw.panel.values
    centred = values - values.mean(axis=0)
    by_hand = []
    for node in range(6):
        others = np.delete(centred, node, axis=1)
        left = centred[:, node] - others @ np.linalg.lstsq(others, centred[:, node], rcond=None)[0]
        by_hand.append(1 - left.var() / centred[:, node].var())
    assert r2_scores(np.cov(values.T)) == pytest.approx(np.array(by_hand))
    scaled = values / values.std(axis=0) * 10.0 ** np.arange(6)
    assert r2_sortability(scaled, draw.panel.truth) == pytest.approx(r2_sortability(values, draw.panel.truth))


def test_holes_are_left_out_and_not_taken_for_zeros():
    draw = SyntheticSEM(nodes=6, rows=4000, seed=2).draw()
    values, truth = draw.panel.values + 50.0, draw.panel.truth
    mask = np.random.default_rng(0).random(values.shape) > 0.3
    holed = np.where(mask, values, 0.0)
    assert varsortability(holed, truth, mask) == pytest.approx(varsortability(values, truth), abs=0.05)
    assert r2_sortability(holed, truth, mask) == pytest.approx(r2_sortability(values, truth), abs=0.1)
    assert varsortability(holed, truth, mask) == varsortability(np.where(mask, values, 1e9), truth, mask)


def test_a_column_that_another_determines_is_no_error():
    draw = SyntheticSEM(nodes=4, rows=200, edges=3, seed=3).draw()
    values = np.column_stack([draw.panel.values, draw.panel.values[:, 0] * 2])
    graph = np.zeros((5, 5))
    graph[:4, :4] = draw.panel.truth
    assert 0 <= r2_sortability(values, graph) <= 1


def test_sorting_by_variance_is_much_better_than_chance_and_standardising_makes_it_chance():
    wrong = {"raw": [], "standardised": [], "random": []}
    for seed in range(12):
        draw = SyntheticSEM(nodes=8, rows=2000, degree=1.5, seed=seed).draw()
        values, truth = draw.panel.values, draw.panel.truth
        # rounding gives standardised columns an order of their own
        standardised = values / values.std(axis=0) * (1 + 1e-3 * np.random.default_rng(seed).standard_normal(8))
        for name, found in (
            ("raw", sort_and_regress(values)),
            ("standardised", sort_and_regress(standardised)),
            ("random", sort_and_regress(values, by="random", seed=seed)),
        ):
            wrong[name].append(((found != 0) != truth).sum())
    raw, standardised, random = (np.mean(counts) for counts in wrong.values())
    assert raw < 0.5 * random
    assert standardised == pytest.approx(random, rel=0.3)


def test_weights_of_the_right_order_are_those_of_the_model():
    draw = SyntheticSEM(nodes=6, rows=20_000, seed=4).draw()
    order = np.argsort(np.linalg.matrix_power(np.eye(6) + draw.panel.truth, 6).astype(bool).sum(axis=0))
    found = regress_in_order(np.cov(draw.panel.values.T), order, 20_000)
    assert ((found != 0) == draw.panel.truth).all()
    assert found == pytest.approx(draw.weights, abs=0.05)


def test_elimination_is_least_squares_on_the_parents_that_are_left():
    rng = np.random.default_rng(5)
    values = rng.standard_normal((300, 5)) @ rng.standard_normal((5, 5))
    covariance = np.cov(values.T)
    order = np.arange(5)
    found = regress_in_order(covariance, order, 300, penalty=3.0)
    assert (np.tril(found) == 0).all()
    for node in range(1, 5):
        parents = np.flatnonzero(found[:, node])
        if len(parents):
            beta = np.linalg.solve(covariance[np.ix_(parents, parents)], covariance[parents, node])
            assert found[parents, node] == pytest.approx(beta)
    assert (regress_in_order(covariance, order, 300, penalty=0.0) != 0).sum() == 10
    assert (regress_in_order(covariance, order, 300, penalty=1e6) != 0).sum() == 0


def by_refitting(covariance: np.ndarray, rows: float, penalty: float) -> np.ndarray:
    """Backward elimination that fits every candidate anew."""
    graph = np.triu(np.ones(covariance.shape, dtype=bool), k=1)

    def residual(node: int, parents: list[int]) -> float:
        if not parents:
            return covariance[node, node]
        along = covariance[parents, node]
        return covariance[node, node] - along @ np.linalg.solve(covariance[np.ix_(parents, parents)], along)

    for node in range(len(covariance)):
        parents = list(range(node))
        while parents:
            now = residual(node, parents)
            without = {p: residual(node, [q for q in parents if q != p]) for p in parents}
            weakest = min(without, key=without.get)
            if rows * np.log(without[weakest] / now) >= penalty * np.log(rows):
                break
            parents.remove(weakest)
        graph[:, node] = False
        graph[parents, node] = True
    return graph


@pytest.mark.parametrize("penalty", [1.0, 2.0, 20.0])
def test_elimination_is_that_of_somebody_who_fits_every_candidate_anew(penalty):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        covariance = np.cov((rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))).T)
        found = regress_in_order(covariance, np.arange(6), 60, penalty)
        assert ((found != 0) == by_refitting(covariance, 60, penalty)).all()


def test_what_is_no_score_or_graph_is_refused():
    values = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ConfigurationError, match="by='varience'.*Did you mean 'variance'"):
        sort_and_regress(values, by="varience")
    with pytest.raises(ConfigurationError, match="penalty=-1"):
        sort_and_regress(values, penalty=-1)
    with pytest.raises(DataError, match=r"graph has shape \(2, 2\)\. Allowed: \(3, 3\)"):
        varsortability(values, np.zeros((2, 2)))
    with pytest.raises(DataError):
        varsortability(np.column_stack([values, np.ones(20)]), np.zeros((4, 4)))
