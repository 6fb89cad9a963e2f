"""The permutation-invariant encoder: a hypergraph convolution, pairs and neighbourhoods, pooled into q(z | X).

Everything is dense and padded: a batch of jets is a few batched matrix products, and absent particles never matter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.jets.coordinates import JetGraph
from stablelit.families.jets.features import EDGE_FEATURES, HYPEREDGE_FEATURES

BACKENDS = ("dense", "pyg")


def hypergraph_operator(incidence: Tensor, weight: Tensor) -> Tensor:
    """``D^-1 H W B^-1 H^T``: averages particles over hyperedges and hyperedges over particles.

    D is the diagonal of weighted particle degrees ``sum_e w_e H_ie``, B that of hyperedge sizes ``sum_i H_ie``; rows of
    particles without hyperedges are zero, all others add up to 1.

    Source: Bai, Zhang, Torr 2019 (arXiv:1901.08150) eq. 5, ``X' = D^-1 H W B^-1 H^T X Theta``.

    Args:
        incidence: H, ``(B, N, M)``.
        weight: diagonal of W, ``(B, M)``, not negative.

    Returns:
        ``(B, N, N)``.
    """
    weighted = incidence * weight[:, None, :]
    degree = weighted.sum(dim=2, keepdim=True).clamp_min(1e-12)
    size = incidence.sum(dim=1, keepdim=True).clamp_min(1.0)
    return torch.bmm(weighted / degree, (incidence / size).transpose(1, 2))


def pool(values: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """The mean over what is there, and the mean weighted by `weight`, side by side.

    No maximum: it would follow soft particles, and its backward pass costs more than all else in this network.

    Args:
        values: ``(B, M, F)``.
        weight: ``(B, M)``, not negative.
        mask: ``(B, M)`` bool.

    Returns:
        ``(B, 2 F)``; zero where nothing is there.
    """
    both = torch.stack([mask.to(values.dtype), (weight * mask).to(values.dtype)], dim=1)
    both = both / both.sum(dim=2, keepdim=True).clamp_min(1e-12)
    return torch.bmm(both, values).flatten(1)


class HypergraphEncoder(nn.Module):
    """Three branches, particles, pairs and hyperedges, pooled and joined into ``(mu, log sigma^2)`` of q(z | X).

    Args:
        latent_dim: d.
        particle_hidden: width of the particle branch.
        edge_hidden: width of the branch of pairs.
        hyperedge_hidden: width of the branch of hyperedges.
        n_edge_particles: pairs are those among this many hardest particles (cost grows with its square).
        n_neighbours: k of the hyperedges.
        dropout: after each hidden layer.
        condition_dim: size of what the jet is conditioned on; 0 for nothing.
        backend: "dense" (padded products) or "pyg" (scatters on sparse graphs, by `torch_geometric`): the same
            parameters and, to rounding, the same numbers.

    Raises:
        ConfigurationError: no such backend.
    """

    def __init__(
        self,
        latent_dim: int,
        particle_hidden: int,
        edge_hidden: int,
        hyperedge_hidden: int,
        n_edge_particles: int,
        n_neighbours: int,
        dropout: float,
        condition_dim: int = 0,
        backend: str = "dense",
    ) -> None:
        super().__init__()
        if backend not in BACKENDS:
            allowed = ", ".join(BACKENDS)
            raise bad_argument(type(self).__name__, "backend", backend, allowed, did_you_mean(str(backend), BACKENDS))
        self.n_edge_particles = n_edge_particles
        self.n_neighbours = n_neighbours
        self.particle = nn.Linear(2 * 3, particle_hidden)
        self.theta = nn.Linear(particle_hidden, particle_hidden)
        self.edge = nn.Sequential(
            nn.Linear(len(EDGE_FEATURES), edge_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(edge_hidden, edge_hidden),
            nn.ReLU(),
        )
        self.hyperedge = nn.Sequential(
            nn.Linear(len(HYPEREDGE_FEATURES), hyperedge_hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.hyperedge_weight = nn.Linear(hyperedge_hidden, 1)
        self.dropout = nn.Dropout(dropout)
        pooled = 2 * (particle_hidden + edge_hidden + hyperedge_hidden) + 1 + condition_dim
        # the pooled branches differ in size; normalised, training gets further in the same number of steps
        self.head = nn.Sequential(
            nn.LayerNorm(pooled),
            nn.Linear(pooled, 2 * particle_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * particle_hidden, 2 * latent_dim),
        )
        self.sparse: Any = None
        if backend == "pyg":
            from stablelit.families.jets.sparse_encoder import SparseForm

            self.sparse = SparseForm()

    def forward(self, graph: JetGraph, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X, c), ``(B, d)`` each; the condition c is ``(B, condition_dim)``."""
        if self.sparse is not None:
            return self.sparse(self, graph, condition)
        hyperedge_hidden = self.hyperedge(graph.hyperedges)
        weight = torch.sigmoid(self.hyperedge_weight(hyperedge_hidden)).squeeze(-1) * graph.hyperedge_mask
        mixing = hypergraph_operator(graph.incidence, weight.float())
        # two hypergraph convolutions; the first acts on three features, where it costs next to nothing
        hidden = self.particle(torch.cat([graph.x, torch.bmm(mixing, graph.x)], dim=-1))
        hidden = self.dropout(torch.relu(hidden))
        hidden = hidden + self.dropout(torch.relu(torch.bmm(mixing.to(hidden.dtype), self.theta(hidden))))
        pooled = [
            pool(hidden, graph.particle_weight, graph.mask),
            pool(self.edge(graph.pairs), graph.pair_weight, graph.pair_mask),
            pool(hyperedge_hidden, weight, graph.hyperedge_mask),
            graph.mask.sum(dim=1, keepdim=True).to(hidden.dtype) / graph.mask.shape[1],
        ]
        return self.posterior(pooled, condition)

    def posterior(self, pooled: list[Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance from what was pooled of each branch and the number of particles, ``(B, F)`` each."""
        joined = torch.cat([*pooled, condition.to(pooled[0].dtype)], dim=-1)
        mean, logvar = self.head(joined).chunk(2, dim=-1)
        return mean, logvar
