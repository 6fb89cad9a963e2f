"""The encoder on sparse graphs: the same parameters and numbers as on padded jets, by PyTorch Geometric.

For those who have their jets as `torch_geometric` data. On padded jets the dense form is faster.

`torch_geometric.nn.HypergraphConv` has W in the degrees but not in the sum, ``D^-1 H B^-1 H^T X``, so that its rows do
not add up to one; `HypergraphMixing` has ``D^-1 H W B^-1 H^T X`` as the paper does, and equals it for W = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from stablelit.families.jets.coordinates import JetGraph
from stablelit.families.jets.encoder import HypergraphEncoder
from stablelit.families.jets.pyg import JetHyperData


class SparseJets(NamedTuple):
    """A batch of jets without padding: n particles, P pairs, M hyperedges and I incidences of all jets together."""

    x: Tensor  # (n, 3) scaled particles
    particle_weight: Tensor  # (n,)
    particle_jet: Tensor  # (n,) of which jet
    pairs: Tensor  # (P, 5) scaled
    pair_weight: Tensor  # (P,)
    pair_jet: Tensor  # (P,)
    hyperedges: Tensor  # (M, 2) scaled
    hyperedge_jet: Tensor  # (M,)
    hyperedge_index: Tensor  # (2, I) particle and hyperedge
    n_jets: int
    n_particles: int  # what a jet would be padded to: the encoder sees its number of particles as a share of it


class HypergraphMixing(MessagePassing):  # type: ignore[misc]
    """``D^-1 H W B^-1 H^T X`` on a sparse incidence; no parameters.

    D is the diagonal of weighted degrees of particles, B that of sizes of hyperedges; a particle without a hyperedge
    gets zero.

    Source: Bai, Zhang, Torr 2019 (arXiv:1901.08150) eq. 5.
    """

    def __init__(self) -> None:
        super().__init__(aggr="add", node_dim=0)

    def forward(self, x: Tensor, hyperedge_index: Tensor, weight: Tensor) -> Tensor:
        """Mixes ``(n, F)``.

        Args:
            x: ``(n, F)``.
            hyperedge_index: ``(2, I)``.
            weight: ``(M,)`` diagonal of W, not negative; its length is the number of hyperedges, which the largest
                index does not tell.
        """
        particle, hyperedge = hyperedge_index
        n, m = x.size(0), weight.size(0)
        degree = scatter(weight[hyperedge], particle, dim=0, dim_size=n, reduce="sum").clamp_min(1e-12)
        size = scatter(torch.ones_like(weight[hyperedge]), hyperedge, dim=0, dim_size=m, reduce="sum").clamp_min(1.0)
        mean = self.propagate(hyperedge_index, x=x, norm=weight / size, size=(n, m))
        back: Tensor = self.propagate(hyperedge_index.flip([0]), x=mean, norm=1.0 / degree, size=(m, n))
        return back

    def message(self, x_j: Tensor, norm_i: Tensor) -> Tensor:
        """What a source sends: itself, scaled by the target's norm."""
        return norm_i[:, None] * x_j


def sparse_jets(graph: JetGraph) -> SparseJets:
    """A padded batch without its padding; no loop over jets."""
    place = (graph.mask.flatten().cumsum(0) - 1).view_as(graph.mask)
    hyperedge_place = (graph.hyperedge_mask.flatten().cumsum(0) - 1).view_as(graph.hyperedge_mask)
    jet, particle, hyperedge = (graph.incidence * graph.hyperedge_mask[:, None, :]).nonzero().unbind(1)
    n_jets, n_particles = graph.mask.shape
    return SparseJets(
        graph.x[graph.mask],
        graph.particle_weight[graph.mask],
        graph.mask.nonzero()[:, 0],
        graph.pairs[graph.pair_mask],
        graph.pair_weight[graph.pair_mask],
        graph.pair_mask.nonzero()[:, 0],
        graph.hyperedges[graph.hyperedge_mask],
        graph.hyperedge_mask.nonzero()[:, 0],
        torch.stack([place[jet, particle], hyperedge_place[jet, hyperedge]]),
        n_jets,
        n_particles,
    )


FOLLOW_BATCH = ["pairs", "hyperedges"]


def encoder_data(graph: JetGraph) -> list[JetHyperData]:
    """The scaled jets of a batch one by one, for PyG's own `DataLoader` with ``follow_batch=FOLLOW_BATCH``.

    What it collates, `collated_jets` turns into what `SparseForm` takes.
    """
    made = []
    for jet in range(len(graph.mask)):
        alone = sparse_jets(JetGraph(*(part[jet : jet + 1] for part in graph)))
        made.append(
            JetHyperData(
                x=alone.x,
                particle_weight=alone.particle_weight,
                pairs=alone.pairs,
                pair_weight=alone.pair_weight,
                hyperedges=alone.hyperedges,
                hyperedge_index=alone.hyperedge_index,
            )
        )
    return made


def collated_jets(batch: Batch, n_particles: int) -> SparseJets:
    """A PyG batch of `encoder_data`'s jets."""
    return SparseJets(
        batch.x,
        batch.particle_weight,
        batch.batch,
        batch.pairs,
        batch.pair_weight,
        batch.pairs_batch,
        batch.hyperedges,
        batch.hyperedges_batch,
        batch.hyperedge_index,
        batch.num_graphs,
        n_particles,
    )


class SparseForm(nn.Module):
    """What a `HypergraphEncoder` computes, on jets without padding. It has no parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = HypergraphMixing()

    def forward(
        self, encoder: HypergraphEncoder, jets: SparseJets | JetGraph, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X, c), ``(B, d)`` each.

        Args:
            encoder: whose parameters are used.
            jets: padded ones lose their padding first.
            condition: c, ``(B, condition_dim)``.
        """
        if isinstance(jets, JetGraph):
            jets = sparse_jets(jets)
        hyperedge_hidden = encoder.hyperedge(jets.hyperedges)
        weight = torch.sigmoid(encoder.hyperedge_weight(hyperedge_hidden)).squeeze(-1).float()
        hidden = encoder.particle(torch.cat([jets.x, self.mixing(jets.x, jets.hyperedge_index, weight)], dim=-1))
        hidden = encoder.dropout(torch.relu(hidden))
        mixed = self.mixing(encoder.theta(hidden), jets.hyperedge_index, weight.to(hidden.dtype))
        hidden = hidden + encoder.dropout(torch.relu(mixed))
        ones = torch.ones_like(jets.particle_weight)
        count = scatter(ones, jets.particle_jet, dim=0, dim_size=jets.n_jets, reduce="sum")
        pooled = [
            _pool(hidden, jets.particle_weight, jets.particle_jet, jets.n_jets),
            _pool(encoder.edge(jets.pairs), jets.pair_weight, jets.pair_jet, jets.n_jets),
            _pool(hyperedge_hidden, weight, jets.hyperedge_jet, jets.n_jets),
            (count / jets.n_particles)[:, None].to(hidden.dtype),
        ]
        return encoder.posterior(pooled, condition)


def _pool(values: Tensor, weight: Tensor, jet: Tensor, n_jets: int) -> Tensor:
    """The plain and the weighted mean of each jet, side by side; see `encoder.pool`."""
    both = torch.stack([torch.ones_like(weight), weight], dim=1)
    total = scatter(both, jet, dim=0, dim_size=n_jets, reduce="sum").clamp_min(1e-12)
    share = (both / total[jet]).to(values.dtype)
    return torch.cat(
        [scatter(share[:, i, None] * values, jet, dim=0, dim_size=n_jets, reduce="sum") for i in (0, 1)], dim=-1
    )
