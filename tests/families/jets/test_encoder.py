from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.encoder import hypergraph_operator, pool
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.scaler import JetScaler


@pytest.fixture
def network(batch):
    made = HypergraphVAE(
        latent_dim=4,
        particle_hidden=16,
        edge_hidden=8,
        hyperedge_hidden=8,
        decoder={"name": "mixture", "n_components": 3, "hidden": 16},
    )
    made.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return made.eval()


def encode(network, batch):
    graph = network.graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0])
    return torch.cat(network.encode(graph, torch.zeros(len(graph.x), 0)), dim=-1)


def test_operator_is_the_product_written_out():
    incidence, weight = (torch.rand(1, 5, 4) < 0.5).float(), torch.rand(1, 4)
    incidence[0, 4] = 0.0
    h = incidence[0]
    degree = [sum(float(weight[0, e] * h[i, e]) for e in range(4)) for i in range(5)]
    size = [float(h[:, e].sum()) for e in range(4)]
    found = hypergraph_operator(incidence, weight)[0]
    for i in range(5):
        for j in range(5):
            total = sum(float(h[i, e] * weight[0, e] * h[j, e]) / size[e] for e in range(4) if size[e])
            assert float(found[i, j]) == pytest.approx(total / degree[i] if degree[i] else 0.0, abs=1e-6)
    assert found.sum(1).tolist() == pytest.approx([1.0 if d else 0.0 for d in degree], abs=1e-6)


def test_pool_gives_two_means_of_what_is_there():
    values, weight, mask = torch.randn(1, 3, 2), torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])
    found = pool(values, weight, mask)[0]
    assert torch.allclose(found[:2], values[0, :2].mean(0))
    assert torch.allclose(found[2:], (values[0, 0] + 3 * values[0, 1]) / 4)
    assert not pool(values, weight, torch.zeros(1, 3, dtype=torch.bool)).any()


def test_order_of_particles_does_not_matter(network, batch):
    order = torch.randperm(batch["mask"].shape[1])
    shuffled = {**batch, "particles": batch["particles"][:, order], "mask": batch["mask"][:, order]}
    assert torch.allclose(encode(network, batch), encode(network, shuffled), atol=1e-5)


def test_what_is_behind_the_mask_does_not_matter(network, batch):
    noisy = batch["particles"].clone()
    noisy[~batch["mask"]] = torch.tensor([50.0, -2.0, 7.0])
    assert torch.allclose(encode(network, batch), encode(network, {**batch, "particles": noisy}), atol=1e-5)


def test_a_turn_of_phi_by_a_full_circle_does_not_matter(network, batch):
    turned = batch["particles"].clone()
    turned[..., 1] += 2 * torch.pi * batch["mask"]
    assert torch.allclose(encode(network, batch), encode(network, {**batch, "particles": turned}), atol=1e-4)


def test_a_jet_alone_is_encoded_as_in_a_batch_of_unequal_jets(network, batch):
    together = encode(network, batch)
    assert together.isfinite().all()
    for row in range(len(together)):
        alone = encode(network, {name: values[row : row + 1] for name, values in batch.items()})
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_all_particles_in_one_place_are_encoded(network, batch):
    batch["particles"][..., :2] = 0.0
    assert encode(network, batch).isfinite().all()


def test_gradients_are_finite_for_jets_of_one_and_two_particles(network, batch):
    few = {name: values[:2] for name, values in batch.items()}
    encode(network, few).square().sum().backward()
    for name, parameter in network.encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("branch", ["edge", "hyperedge", "theta", "particle", "hyperedge_weight"])
def test_every_branch_reaches_the_posterior(network, batch, branch):
    encode(network, batch).square().sum().backward()
    gradients = [p.grad for p in getattr(network.encoder, branch).parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)


def test_codes_and_likelihoods_are_float32_under_autocast(network, batch):
    with torch.autocast("cpu", torch.bfloat16):
        code = encode(network, batch)
        decoded = network.decoder(code[:, :4])
    assert code.dtype == torch.float32
    assert all(part.dtype == torch.float32 for part in decoded)
