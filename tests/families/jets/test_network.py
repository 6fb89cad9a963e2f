from __future__ import annotations

import torch

from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.scaler import JetScaler

SMALL = {"latent_dim": 4, "particle_hidden": 16, "edge_hidden": 8, "hyperedge_hidden": 8}
DECODER = {"name": "mixture", "n_components": 3, "hidden": 16}


def test_a_condition_reaches_code_and_posterior(batch):
    network = HypergraphVAE(**SMALL, decoder=DECODER, conditional=["label", "pt"], classes=["q", "g", "t"])
    network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    graph = network.graph_of(batch["particles"], batch["mask"], batch["jet"][:, 0])
    codes = []
    for label in (0, 1):
        condition = network.condition(torch.full((12,), label), batch["jet"][:, 0])
        mean, _ = network.encode(graph, condition)
        codes.append(network.code(mean, condition))
    assert codes[0].shape == (12, 4 + 4)
    assert not torch.allclose(codes[0][:, :4], codes[1][:, :4])
    first, second = (network.decoder.recon_terms(code, graph.x, graph.mask)["recon"] for code in codes)
    assert not torch.allclose(first, second)


def test_without_conditions_the_code_is_the_latent_code():
    network = HypergraphVAE(**SMALL, decoder=DECODER)
    z = torch.randn(5, 4)
    condition = network.condition(torch.zeros(5, dtype=torch.long), torch.ones(5))
    assert network.code(z, condition) is z


def test_heads_are_left_out_on_demand():
    assert HypergraphVAE(**SMALL, decoder=DECODER, jet_level=False).jet_level is None
