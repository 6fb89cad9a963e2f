"""The coordinates of a jet model: (ln ptrel, etarel, phirel) scaled by the training jets, and a batch seen in them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stablelit.families.jets.features import pair_features, wrap_angle
from stablelit.families.jets.hyperedges import MAX_HYPEREDGES, build_hyperedges
from stablelit.families.jets.scaler import JetScaler

MAX_PULL = 5.0


class JetGraph(NamedTuple):
    """What a network sees of a batch of jets; scaled unless said otherwise, and zero where nothing is there."""

    x: Tensor  # (B, N, 3) particles
    mask: Tensor  # (B, N)
    particles: Tensor  # (B, N, 3) etarel, phirel (rad), ptrel, not scaled
    jet_pt: Tensor  # (B,) GeV
    pairs: Tensor  # (B, P, 5) features of pairs
    pair_mask: Tensor  # (B, P)
    pair_weight: Tensor  # (B, P) z_a z_b
    incidence: Tensor  # (B, N, M)
    hyperedges: Tensor  # (B, M, 2) features of hyperedges
    hyperedge_mask: Tensor  # (B, M)

    @property
    def particle_weight(self) -> Tensor:
        """ptrel, ``(B, N)``."""
        return self.particles[..., 2].float()


class JetCoordinates(nn.Module):
    """A `JetScaler` as buffers, one for each of its fields, so that it is in every checkpoint, and what it is used for.

    Args:
        n_particles: particles a jet is padded to, and the largest n.
    """

    scaler_is_fitted: Tensor

    def __init__(self, n_particles: int) -> None:
        super().__init__()
        self.n_particles = n_particles
        for name, shape in JetScaler.shapes(n_particles).items():
            fill = torch.zeros if name.endswith(("mean", "prob")) else torch.ones
            self.register_buffer(name, fill(shape))
        self.register_buffer("scaler_is_fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def set_scaler(self, scaler: JetScaler) -> None:
        """Takes over the statistics of the training jets."""
        for name in JetScaler.shapes(self.n_particles):
            getattr(self, name).copy_(getattr(scaler, name))
        self.scaler_is_fitted.fill_(True)

    def standardise(self, particles: Tensor, mask: Tensor) -> Tensor:
        """(etarel, phirel, ptrel) to scaled (ln ptrel, etarel, phirel), ``(B, N, 3)``; zero where nothing is there."""
        eta, phi, ptrel = particles.float().unbind(-1)
        ln_ptrel = ptrel.where(mask, 1.0).log()
        x = (torch.stack([ln_ptrel, eta, wrap_angle(phi)], dim=-1) - self.particle_mean) / self.particle_std
        return x.masked_fill(~mask[..., None], 0.0)

    def destandardise(self, x: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `standardise`: positive ptrel where `mask`, zeros elsewhere."""
        ln_ptrel, eta, phi = (x * self.particle_std + self.particle_mean).unbind(-1)
        particles = torch.stack([eta, wrap_angle(phi), ln_ptrel.exp()], dim=-1)
        return particles.masked_fill(~mask[..., None], 0.0)

    @torch.no_grad()
    def graph(
        self,
        particles: Tensor,
        mask: Tensor,
        jet_pt: Tensor,
        n_edge_particles: int = 8,
        n_neighbours: int = 3,
        hyperedges: str = "knn",
        max_hyperedges: int = MAX_HYPEREDGES,
    ) -> JetGraph:
        """The particles, pairs and hyperedges of a batch, scaled.

        Args:
            particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
            mask: ``(B, N)`` bool.
            jet_pt: ``(B,)`` GeV.
            n_edge_particles: pairs are those among this many hardest particles.
            n_neighbours: particles of a hyperedge beside its own.
            hyperedges: their kind; see `hyperedges`.
            max_hyperedges: the most that "all" may make of N particles.
        """
        pairs, pair_mask = pair_features(*_hardest(particles, mask, n_edge_particles), jet_pt)
        incidence, features, hyperedge_mask = build_hyperedges(
            hyperedges, particles, mask, n_neighbours, max_hyperedges=max_hyperedges
        )
        return JetGraph(
            self.standardise(particles, mask),
            mask,
            particles,
            jet_pt,
            _scale(pairs, self.pair_mean, self.pair_std, pair_mask),
            pair_mask,
            pairs[..., 4].exp(),
            incidence,
            _scale(features, self.hyperedge_mean, self.hyperedge_std, hyperedge_mask),
            hyperedge_mask,
        )


def _hardest(particles: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    count = min(count, particles.shape[1])
    chosen = particles[..., 2].masked_fill(~mask, -1.0).topk(count, dim=1).indices
    return particles.gather(1, chosen[..., None].expand(-1, -1, 3)), mask.gather(1, chosen)


def _scale(values: Tensor, mean: Tensor, std: Tensor, mask: Tensor) -> Tensor:
    scaled = ((values - mean) / std).clamp(-MAX_PULL, MAX_PULL)
    return scaled.masked_fill(~mask[..., None], 0.0)
