"""The hypergraph variational autoencoder: encoder, decoder, coordinates and conditions in one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.families.jets.conditions import Conditions
from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.families.jets.decoders import build_decoder
from stablelit.families.jets.encoder import HypergraphEncoder
from stablelit.families.jets.hyperedges import MAX_HYPEREDGES, build_hyperedges, check_hyperedges
from stablelit.families.jets.jet_level import JetLevelHeads
from stablelit.families.jets.scaler import moments
from stablelit.functional.kl import LOGVAR_RANGE

# of each, all hyperedges are measured, and they are thousands
MAX_JETS_FOR_ALL = 50


class HypergraphVAE(JetCoordinates):
    """Encoder, decoder, and the coordinates (a `JetScaler` as buffers, so that it is in every checkpoint).

    The code that the decoder is given is z with the condition c behind it, ``(B, d + dim c)``.

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
        conditional: of "label" and "pt".
        classes: names of the classes, for a condition on the label.
        jet_level: whether there are heads for mass and sum of ptrel.
        hyperedges: their kind, "knn", "topk_weight" or "all"; see `hyperedges`.
        max_hyperedges: the most that "all" may make of a jet.
        backend: of the encoder, "dense" or "pyg".
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
        decoder: str | Mapping[str, Any] = "hardest_first",
        conditional: Sequence[str] = (),
        classes: Sequence[str] = (),
        jet_level: bool = True,
        hyperedges: str = "knn",
        max_hyperedges: int = MAX_HYPEREDGES,
        backend: str = "dense",
    ) -> None:
        check_hyperedges("JetVAE", hyperedges, n_particles, max_hyperedges)
        super().__init__(n_particles)
        self.latent_dim = latent_dim
        self.hyperedges, self.max_hyperedges = hyperedges, max_hyperedges
        self.conditions = Conditions(conditional, classes)
        code_dim = latent_dim + self.conditions.dim
        self.encoder = HypergraphEncoder(
            latent_dim,
            particle_hidden,
            edge_hidden,
            hyperedge_hidden,
            n_edge_particles,
            n_neighbours,
            encoder_dropout,
            self.conditions.dim,
            backend,
        )
        self.decoder = build_decoder(decoder, code_dim, n_particles)
        self.jet_level = JetLevelHeads(code_dim, n_particles) if jet_level else None

    def graph_of(self, particles: Tensor, mask: Tensor, jet_pt: Tensor) -> JetGraph:
        """A batch as the encoder wants it, from raw particles ``(B, N, 3)`` and jet pT (GeV)."""
        encoder, kind = self.encoder, self.hyperedges
        chosen = (encoder.n_edge_particles, encoder.n_neighbours, kind, self.max_hyperedges)
        return self.graph(particles, mask, jet_pt, *chosen)

    def scale_hyperedges(self, particles: Tensor, mask: Tensor) -> None:
        """Takes the moments of hyperedges as this model chooses them; `set_scaler` brought those of three neighbours.

        Args:
            particles: ``(n, N, 3)`` of training jets.
            mask: ``(n, N)`` bool.
        """
        few = slice(0, MAX_JETS_FOR_ALL if self.hyperedges == "all" else None)
        chosen = (self.hyperedges, particles[few], mask[few], self.encoder.n_neighbours)
        _, features, there = build_hyperedges(*chosen, max_hyperedges=self.max_hyperedges)
        mean, std = moments(features[there], features.shape[-1])
        self.hyperedge_mean.copy_(mean)
        self.hyperedge_std.copy_(std)

    def condition(self, label: Tensor, jet_pt: Tensor) -> Tensor:
        """What jets of these classes ``(B,)`` and pT ``(B,)`` (GeV) are conditioned on, ``(B, dim c)``."""
        condition: Tensor = self.conditions(label, jet_pt, self)
        return condition

    def encode(self, graph: JetGraph, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X, c), ``(B, d)`` each, float32 also under autocast."""
        mean, logvar = self.encoder(graph, condition)
        return mean.float(), logvar.float()

    def draw_code(
        self, mean: Tensor, logvar: Tensor, condition: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The code with one draw of z from q(z | X, c); without a generator the noise is the global one's."""
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return self.code(mean + noise * torch.exp(0.5 * logvar.clamp(*LOGVAR_RANGE)), condition)

    @staticmethod
    def code(z: Tensor, condition: Tensor) -> Tensor:
        """What decoder and heads are given."""
        return torch.cat([z, condition], dim=-1) if condition.shape[-1] else z
