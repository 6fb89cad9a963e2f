from __future__ import annotations

import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import HypergraphConv

from stablelit.errors import ConfigurationError
from stablelit.families.jets.encoder import hypergraph_operator
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.scaler import JetScaler
from stablelit.families.jets.sparse_encoder import (
    FOLLOW_BATCH,
    HypergraphMixing,
    SparseForm,
    collated_jets,
    encoder_data,
    sparse_jets,
)

TINY = {"latent_dim": 4, "particle_hidden": 16, "edge_hidden": 8, "hyperedge_hidden": 8, "decoder": "mixture"}


def network(batch, **arguments):
    torch.manual_seed(5)
    made = HypergraphVAE(**{**TINY, **arguments})
    made.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return made


def encode(made, batch):
    graph = made.graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0])
    return torch.cat(made.encode(graph, torch.zeros(len(graph.mask), 0)), dim=-1)


def test_mixing_is_the_dense_operator_and_not_that_of_hypergraph_conv():
    incidence = (torch.rand(6, 4) < 0.5).float()
    incidence[5], incidence[:, 3] = 0.0, 0.0  # a particle without a hyperedge, a last hyperedge without a particle
    weight, x, index = torch.rand(4), torch.randn(6, 3), incidence.nonzero().T
    found = HypergraphMixing()(x, index, weight)
    expected = hypergraph_operator(incidence[None], weight[None])[0] @ x
    assert torch.allclose(found, expected, atol=1e-6)
    theirs = HypergraphConv(3, 3, bias=False)
    theirs.lin = torch.nn.Identity()
    assert torch.allclose(HypergraphMixing()(x, index, torch.ones(4)), theirs(x, index, num_edges=4), atol=1e-6)
    assert not torch.allclose(found, theirs(x, index, weight, num_edges=4), atol=1e-2)


@pytest.mark.parametrize("hyperedges", ["knn", "topk_weight"])
def test_the_backends_share_parameters_numbers_and_gradients(batch, hyperedges):
    dense, sparse = (network(batch, backend=b, hyperedges=hyperedges) for b in ("dense", "pyg"))
    sparse.load_state_dict(dense.state_dict(), strict=True)
    found, expected = encode(sparse, batch), encode(dense, batch)
    assert torch.allclose(found, expected, atol=1e-5)
    (found.square().sum() + expected.square().sum()).backward()
    for (name, one), other in zip(sparse.encoder.named_parameters(), dense.encoder.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-4), name


def test_dropout_is_there_in_training_and_not_in_evaluation(batch):
    made = network(batch, backend="pyg", encoder_dropout=0.5)
    assert not torch.equal(encode(made, batch), encode(made, batch))
    made.eval()
    assert torch.equal(encode(made, batch), encode(made, batch))


def test_a_jet_alone_is_encoded_as_in_a_batch_of_unequal_jets(batch):
    """Collated by PyG's own loader from single jets, among them one of one particle and one of two."""
    made = network(batch).eval()
    graph = made.graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0])
    jets = encoder_data(graph)
    together = next(iter(DataLoader(jets, batch_size=12, follow_batch=FOLLOW_BATCH)))
    nothing = torch.zeros(12, 0)
    form = SparseForm()
    found = torch.cat(form(made.encoder, collated_jets(together, 30), nothing), dim=-1)
    assert torch.allclose(found, encode(made, batch), atol=1e-5)
    for row in range(12):
        alone = next(iter(DataLoader(jets[row : row + 1], batch_size=1, follow_batch=FOLLOW_BATCH)))
        one = torch.cat(form(made.encoder, collated_jets(alone, 30), nothing[:1]), dim=-1)
        assert torch.allclose(one[0], found[row], atol=1e-5)


def test_losing_the_padding_is_collating_single_jets(batch):
    graph = network(batch).graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0])
    collated = collated_jets(next(iter(DataLoader(encoder_data(graph), 12, follow_batch=FOLLOW_BATCH))), 30)
    for name, one, other in zip(collated._fields, sparse_jets(graph), collated, strict=True):
        if name == "hyperedge_index":  # in any order
            one, other = (torch.unique(index, dim=1) for index in (one, other))
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), name


def test_an_unknown_backend_is_named(batch):
    with pytest.raises(ConfigurationError, match="dense, pyg"):
        network(batch, backend="dgl")
