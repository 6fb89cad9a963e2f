from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.functional.edge_thresholds import (
    EdgeCurve,
    edge_frequencies,
    edges_at,
    false_edges_bound,
    is_acyclic,
    structural_hamming_distance,
)


def shd_by_pairs(predicted, truth, reversal_cost):
    """Each pair of nodes by itself: what it costs to turn the predicted edges into the true ones."""
    distance = 0
    for i, j in itertools.combinations(range(len(truth)), 2):
        a, t = set(), set()
        for x, y in ((i, j), (j, i)):
            if predicted[x, y]:
                a.add((x, y))
            if truth[x, y]:
                t.add((x, y))
        turned = len(a) == len(t) == 1 and a != t
        distance += reversal_cost if turned else len(a ^ t)
    return distance


def has_cycle(adjacency):
    """A path back to where it began, by following every path."""
    nodes = len(adjacency)
    reached = adjacency.copy()
    for _ in range(nodes):
        reached |= (reached[:, :, None] & adjacency[None]).any(1)
    return bool(np.diagonal(reached).any())


def random_graphs(seed, graphs=1, nodes=5):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, (graphs, nodes, nodes)) / 12
    truth = np.triu(rng.random((graphs, nodes, nodes)) < 0.4, 1)
    order = rng.permutation(nodes)
    return scores, truth[:, order][:, :, order]


@pytest.mark.parametrize("reversal_cost", [1, 2])
@pytest.mark.parametrize("graphs", [1, 3])
def test_the_distance_of_every_cut_is_that_of_its_graph(graphs, reversal_cost):
    for seed in range(25):
        scores, truth = random_graphs(seed, graphs)
        if seed % 5 == 0:
            truth = truth | truth.swapaxes(1, 2)  # edges both ways count as two
        curve = EdgeCurve(scores, truth, reversal_cost)
        by_hand = []
        for threshold in curve.curve.thresholds:
            predicted = edges_at(scores, threshold)
            by_hand.append(sum(shd_by_pairs(p, t, reversal_cost) for p, t in zip(predicted, truth, strict=True)))
            assert structural_hamming_distance(predicted, truth, reversal_cost) == by_hand[-1]
        assert curve.structural_hamming_distances().tolist() == by_hand
        best = curve.fewest_errors()
        assert best.predicted == min(
            k for k, d in zip(curve.curve.predicted, by_hand, strict=True) if d == min(by_hand)
        )


def test_the_numbers_of_thirteen_sensors():
    # sixteen edges, one of them right and none reversed: SHD 15 + 12; the empty graph 13; all edges 156 - 13
    truth = np.zeros((13, 13), bool)
    truth[0, 1:] = truth[1, 2] = True
    predicted = np.zeros((13, 13), bool)
    predicted[0, 1] = True
    predicted[np.arange(3, 13), 2] = predicted[np.arange(3, 8), 12 - np.arange(3, 8) + 1] = True
    predicted[predicted & truth.T] = False
    assert structural_hamming_distance(np.zeros_like(truth), truth) == 13
    assert structural_hamming_distance(~np.eye(13, dtype=bool), truth, 2) == 143
    assert structural_hamming_distance(truth.T, truth) == 13
    assert structural_hamming_distance(truth.T, truth, 2) == 26
    extra = int((predicted & ~truth).sum())
    assert structural_hamming_distance(predicted, truth) == extra + 12


def test_the_diagonal_is_never_looked_at():
    scores, truth = random_graphs(1)
    loud = scores.copy()
    loud[0][np.eye(5, dtype=bool)] = np.nan
    a, b = EdgeCurve(scores, truth), EdgeCurve(loud, truth)
    assert a.structural_hamming_distances().tolist() == b.structural_hamming_distances().tolist()
    assert a.groups.total == 20
    assert not edges_at(np.full((1, 3, 3), 9.0), 0.0)[0].diagonal().any()


def test_an_edge_goes_from_its_row_to_its_column():
    scores, truth = torch.tensor([[0.0, 0.9], [0.1, 0.0]]), torch.tensor([[0, 1], [0, 0]])
    assert EdgeCurve(scores, truth).fewest_errors().predicted == 1
    assert min(EdgeCurve(scores, truth.T).structural_hamming_distances()) == 1


def test_acyclic_graphs_by_brute_force():
    rng = np.random.default_rng(0)
    graphs = (rng.random((300, 5, 5)) < 0.22) & ~np.eye(5, dtype=bool)
    told = is_acyclic(graphs)
    assert told.tolist() == [not has_cycle(g) for g in graphs]
    assert 50 < told.sum() < 250
    assert not is_acyclic(np.eye(2, dtype=bool))
    assert is_acyclic(np.zeros((3, 3), bool))


@pytest.mark.parametrize("graphs", [1, 2])
def test_the_last_acyclic_threshold_by_trying_them_all(graphs):
    for seed in range(25):
        scores, _ = random_graphs(seed, graphs)
        curve = EdgeCurve(scores)
        tried = [t for t in curve.curve.thresholds if not any(has_cycle(g) for g in edges_at(scores, t))]
        assert curve.most_edges_without_cycle().threshold == min(tried)
    dag = EdgeCurve(np.triu(np.ones((4, 4)), 1))
    assert dag.most_edges_without_cycle().predicted == 6


def test_float32_scores_keep_their_ties_and_their_neighbours():
    base = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    base[0, 1] = torch.nextafter(base[2, 3], torch.tensor(2.0))
    curve = EdgeCurve(base, torch.zeros(4, 4))
    off = ~torch.eye(4, dtype=torch.bool)
    for index in range(len(curve.curve.predicted)):
        counts = curve.curve.at(index)
        assert int((base[off] >= counts.threshold).sum()) == counts.predicted == curve.predicted_graphs(counts).sum()


def test_bic_by_fitting_every_acyclic_prefix():
    rng = np.random.default_rng(3)
    weights = np.zeros((5, 5))
    weights[0, 2] = weights[1, 2] = weights[2, 3] = 1.2
    samples = 400
    data = np.zeros((samples, 5))
    for node in range(5):
        data[:, node] = data @ weights[:, node] + rng.normal(size=samples) * (1 + node)
    data -= data.mean(0)
    scores = np.abs(weights) + 0.3 * rng.random((5, 5))
    curve = EdgeCurve(scores)
    values = {}
    for index, threshold in enumerate(curve.curve.thresholds):
        adjacency = edges_at(scores[None], threshold)[0]
        if has_cycle(adjacency):
            break
        value = 0.0
        for node in range(5):
            parents = data[:, adjacency[:, node]]
            residual = data[:, node] - parents @ np.linalg.lstsq(parents, data[:, node], rcond=None)[0]
            value += samples * math.log((residual**2).mean())
        values[index] = value + 2 * math.log(samples) * adjacency.sum()
    best = min(values, key=values.__getitem__)
    told = curve.smallest_bic(data.T @ data / samples, samples)
    assert told.predicted == curve.curve.at(best).predicted == 3
    with pytest.raises(DataError, match="covariance of shape"):
        curve.smallest_bic(np.eye(4), 10)


def test_frequencies_over_half_samples_and_their_bound():
    rng = np.random.default_rng(0)
    scores = rng.random((6, 4, 4))
    told = edge_frequencies(scores, 3)
    off = ~np.eye(4, dtype=bool)
    counts = np.zeros((4, 4))
    for graph in scores:
        ranked = sorted(zip(*np.nonzero(off), strict=True), key=lambda edge: -graph[edge])
        for edge in ranked[:3]:
            counts[edge] += 1
    assert told.tolist() == (counts / 6).tolist()
    # zeros tie for the last place and are no edges
    sparse = np.zeros((2, 4, 4))
    sparse[:, 0, 1] = 1.0
    assert edge_frequencies(sparse, 3).sum() == 1.0
    assert false_edges_bound(10, 0.9, 156) == pytest.approx(100 / (0.8 * 156))


def test_stability_selection_of_noise_keeps_the_bound():
    rng = np.random.default_rng(1)
    false = [(edge_frequencies(rng.random((20, 8, 8)), 8) >= 0.75).sum() for _ in range(30)]
    assert np.mean(false) <= false_edges_bound(8, 0.75, 56)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (torch.rand(3, 4), None, r"shape \(3, 4\)"),
        (torch.rand(1, 1), None, "d of 2 or more"),
        (torch.tensor([[0.0, float("nan")], [0.0, 0.0]]), None, r"1 of 4 are NaN, the first at \(0, 1\)"),
        (torch.rand(3, 3), torch.zeros(4, 4), "the same shape"),
        (torch.rand(3, 3), torch.eye(3), "3 self-loops, the first at node 0"),
        (torch.rand(2, 2), torch.tensor([[0.0, 0.7], [0.0, 0.0]]), "neither 0 nor 1"),
    ],
)
def test_bad_graphs_are_named(scores, truth, message):
    with pytest.raises(DataError, match=message):
        EdgeCurve(scores, truth)


def test_bad_half_samples_are_named():
    with pytest.raises(DataError, match="1 half-samples and 2 edges"):
        edge_frequencies(torch.rand(3, 3), 2)
    with pytest.raises(DataError, match="6 edges each of 6"):
        edge_frequencies(torch.rand(4, 3, 3), 6)
