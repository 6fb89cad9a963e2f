from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.features import knn_hyperedges, pair_features
from stablelit.families.jets.pyg import JetHyperData, from_pyg, to_pyg


def narrowed(batch, n_particles):
    return {
        name: values[:, :n_particles] if name in ("particles", "mask") else values for name, values in batch.items()
    }


@pytest.mark.parametrize("form", ["list", "batch"])
def test_there_and_back_again(batch, form):
    order = torch.randperm(30)
    batch = {**batch, "particles": batch["particles"][:, order], "mask": batch["mask"][:, order]}
    graphs = to_pyg(batch)
    found = from_pyg(graphs if form == "list" else Batch.from_data_list(graphs), n_particles=30)
    for row in range(12):
        n = int(batch["mask"][row].sum())
        assert torch.equal(found["particles"][row, :n], batch["particles"][row, batch["mask"][row]])
        assert found["mask"][row].tolist() == [True] * n + [False] * (30 - n)
    assert torch.equal(found["jet"], batch["jet"])
    assert torch.equal(found["label"], batch["label"])
    assert from_pyg(graphs[:3])["mask"].shape == (3, 3)


@pytest.mark.slow
def test_edges_carry_the_features_of_their_pairs(batch):
    graphs = to_pyg(batch)
    assert graphs[0].edge_index.shape == (2, 0)
    for row, graph in enumerate(graphs):
        n = graph.num_nodes
        assert {tuple(pair) for pair in graph.edge_index.T.tolist()} == {
            (i, j) for i in range(n) for j in range(n) if i != j
        }
        assert graph.edge_attr.shape == (n * (n - 1), 5)
        for (i, j), features in zip(graph.edge_index.T.tolist()[:40], graph.edge_attr[:40], strict=False):
            two, both = graph.x[[i, j]][None], torch.ones(1, 2, dtype=torch.bool)
            assert torch.allclose(
                pair_features(two, both, batch["jet"][row : row + 1, 0])[0][0, 0], features, atol=1e-5
            )
    once = to_pyg(batch, both_directions=False)[5]
    assert once.edge_index.shape[1] * 2 == graphs[5].edge_index.shape[1]


def test_incidences_are_those_of_the_padded_form(batch):
    incidence, features, mask = knn_hyperedges(batch["particles"], batch["mask"])
    for row, graph in enumerate(to_pyg(batch)):
        dense = torch.zeros(graph.num_nodes, graph.num_hyperedges)
        dense[graph.hyperedge_index[0], graph.hyperedge_index[1]] = 1.0
        assert torch.equal(dense, incidence[row][batch["mask"][row]][:, mask[row]])
        assert torch.equal(graph.hyperedge_attr, features[row, mask[row]])


def test_all_triplets_and_quadruplets_are_the_format_of_the_post_mortem(batch):
    batch = narrowed(batch, 7)
    for graph in to_pyg(batch, hyperedges="all"):
        n = graph.num_nodes
        expected = [set(c) for k in (3, 4) for c in combinations(range(n), k)]
        found = [set() for _ in range(graph.num_hyperedges)]
        for particle, hyperedge in graph.hyperedge_index.T.tolist():
            found[hyperedge].add(particle)
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
        assert graph.hyperedge_index.shape[1] == 3 * math.comb(n, 3) + 4 * math.comb(n, 4)
    with pytest.raises(ConfigurationError, match="max_hyperedges=20"):
        to_pyg(batch, hyperedges="all", max_hyperedges=20)


def test_a_batch_of_unequal_jets_is_the_jets_side_by_side(batch):
    """In a batch, each row of an index has to grow by the number of what it counts, also behind a jet without any."""
    graphs = [to_pyg(batch)[row] for row in (3, 0, 5, 1, 2, 7)]
    # a hyperedge without a particle, the last of its jet: an index does not show it
    graphs[2].hyperedge_attr = torch.cat([graphs[2].hyperedge_attr, torch.zeros(1, 2)])
    together = next(iter(DataLoader(graphs, batch_size=6)))
    particles = hyperedges = 0
    expected, edges = [], []
    for graph in graphs:
        expected.append(graph.hyperedge_index + torch.tensor([[particles], [hyperedges]]))
        edges.append(graph.edge_index + particles)
        particles, hyperedges = particles + graph.x.shape[0], hyperedges + graph.hyperedge_attr.shape[0]
    assert torch.equal(together.hyperedge_index, torch.cat(expected, dim=1))
    assert torch.equal(together.edge_index, torch.cat(edges, dim=1))
    assert together.hyperedge_attr.shape[0] == hyperedges
    for one, other in zip(together.to_data_list(), graphs, strict=True):
        assert torch.equal(one.hyperedge_index, other.hyperedge_index)


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ([], "no jets"),
        (
            [JetHyperData(x=torch.zeros(2, 3), jet=torch.zeros(1, 4)), Data(x=torch.zeros(2, 4))],
            r"graph 1 has x=\(2, 4\)",
        ),
        ([Data(x=torch.zeros(2, 3))], "graph 0 has jet=None"),
        ([Data(x=torch.zeros(5, 3), jet=torch.zeros(1, 4))], "5 particles, more than n_particles=4"),
    ],
)
def test_graphs_that_are_no_jets_are_named(graphs, message):
    with pytest.raises(DataError, match=message):
        from_pyg(graphs, n_particles=4)
