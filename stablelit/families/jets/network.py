"""The hypergraph variational autoencoder: encoder, decoder and coordinates in one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.families.jets.decoders import build_decoder
from stablelit.families.jets.encoder import HypergraphEncoder


class HypergraphVAE(JetCoordinates):
    """Encoder, decoder, and the coordinates (a `JetScaler` as buffers, so that it is in every checkpoint).

    Args:
        n_particles: particles a jet is padded to, and the largest n.
        latent_dim: d.
        particle_hidden: width of the particle branch.
        edge_hidden: width of the branch of pairs.
        hyperedge_hidden: width of the branch of hyperedges.
        n_edge_particles: pairs are those among this many hardest particles.
        n_neighbours: k of the hyperedges.
        encoder_dropout: in the encoder.
        decoder: its name, or a mapping of its ``name`` and settings; see `decoders`.
    """

    def __init__(
        self,
        n_particles: int = 30,
        latent_dim: int = 24,
        particle_hidden: int = 64,
        edge_hidden: int = 48,
        hyperedge_hidden: int = 32,
        n_edge_particles: int = 8,
        n_neighbours: int = 3,
        encoder_dropout: float = 0.0,
        decoder: str | Mapping[str, Any] = "mixture",
    ) -> None:
        super().__init__(n_particles)
        self.latent_dim = latent_dim
        self.encoder = HypergraphEncoder(
            latent_dim, particle_hidden, edge_hidden, hyperedge_hidden, n_edge_particles, n_neighbours, encoder_dropout
        )
        self.decoder = build_decoder(decoder, latent_dim, n_particles)

    def graph_of(self, particles: Tensor, mask: Tensor, jet_pt: Tensor) -> JetGraph:
        """A batch as the encoder wants it, from raw particles ``(B, N, 3)`` and jet pT (GeV)."""
        return self.graph(particles, mask, jet_pt, self.encoder.n_edge_particles, self.encoder.n_neighbours)

    def encode(self, graph: JetGraph) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X), ``(B, d)`` each, float32 also under autocast."""
        mean, logvar = self.encoder(graph)
        return mean.float(), logvar.float()
