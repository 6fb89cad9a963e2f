"""The hypergraph variational autoencoder: a permutation-invariant encoder and an exchangeable mixture decoder.

Everything is dense and padded: a batch of jets is a few batched matrix products, and absent particles never matter.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stablelit.families.jets.features import (
    EDGE_FEATURES,
    HYPEREDGE_FEATURES,
    knn_hyperedges,
    pair_features,
    wrap_angle,
)
from stablelit.families.jets.losses import LOG_SIGMA_RANGE
from stablelit.families.jets.scaler import JetScaler

MAX_PULL = 5.0


class MixtureParameters(NamedTuple):
    """What the decoder says of a jet."""

    count_logits: Tensor  # (B, N_max) unnormalised log p(n | z)
    log_weight: Tensor  # (B, K) log pi
    mean: Tensor  # (B, K, 3)
    log_sigma: Tensor  # (B, K, 3)


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


class JetGraph(NamedTuple):
    """What the encoder sees of a batch of jets; everything is scaled, and zero where nothing is there."""

    x: Tensor  # (B, N, 3) particles
    mask: Tensor  # (B, N)
    particle_weight: Tensor  # (B, N) ptrel
    pairs: Tensor  # (B, P, 5) features of pairs
    pair_mask: Tensor  # (B, P)
    pair_weight: Tensor  # (B, P) z_a z_b
    incidence: Tensor  # (B, N, M)
    hyperedges: Tensor  # (B, M, 2) features of hyperedges
    hyperedge_mask: Tensor  # (B, M)


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
    ) -> None:
        super().__init__()
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
        pooled = 2 * (particle_hidden + edge_hidden + hyperedge_hidden) + 1
        # the pooled branches differ in size; normalised, training gets further in the same number of steps
        self.head = nn.Sequential(
            nn.LayerNorm(pooled),
            nn.Linear(pooled, 2 * particle_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * particle_hidden, 2 * latent_dim),
        )

    def forward(self, graph: JetGraph) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X), ``(B, d)`` each."""
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
        mean, logvar = self.head(torch.cat(pooled, dim=-1)).chunk(2, dim=-1)
        return mean, logvar


class MixtureDecoder(nn.Module):
    """z to the parameters of ``log p(n | z)`` and of the mixture over particles (see `losses`).

    Args:
        latent_dim: d.
        hidden: width.
        n_components: K.
        n_particles: largest n.
        dropout: after each hidden layer.
    """

    def __init__(self, latent_dim: int, hidden: int, n_components: int, n_particles: int, dropout: float) -> None:
        super().__init__()
        self.n_components = n_components
        self.n_particles = n_particles
        self.body = nn.Sequential(
            nn.Linear(latent_dim, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.out = nn.Linear(hidden, n_particles + 7 * n_components)
        # spread the components at the start: equal ones would move together
        with torch.no_grad():
            self.out.bias[n_particles + n_components : n_particles + 4 * n_components].normal_(0.0, 0.5)

    def forward(self, z: Tensor) -> MixtureParameters:
        """Decodes ``(B, d)``; the parameters are float32 also under autocast."""
        k = self.n_components
        count, weight, mean, log_sigma = (
            self.out(self.body(z)).float().split([self.n_particles, k, 3 * k, 3 * k], dim=-1)
        )
        return MixtureParameters(
            count,
            torch.log_softmax(weight, dim=-1),
            mean.unflatten(-1, (k, 3)),
            log_sigma.unflatten(-1, (k, 3)).clamp(*LOG_SIGMA_RANGE),
        )


class HypergraphVAE(nn.Module):
    """Encoder, decoder, and the coordinates (a `JetScaler` as buffers, so that it is in every checkpoint).

    Args:
        n_particles: particles a jet is padded to, and the largest n.
        latent_dim: d.
        particle_hidden: width of the particle branch.
        edge_hidden: width of the branch of pairs.
        hyperedge_hidden: width of the branch of hyperedges.
        n_components: K of the mixture.
        n_edge_particles: pairs are those among this many hardest particles.
        n_neighbours: k of the hyperedges.
        decoder_hidden: width of the decoder; it runs once a jet, not once a particle, so width is cheap there.
        encoder_dropout: in the encoder.
        decoder_dropout: in the decoder.
    """

    particle_mean: Tensor
    particle_std: Tensor
    pair_mean: Tensor
    pair_std: Tensor
    hyperedge_mean: Tensor
    hyperedge_std: Tensor
    jet_pt_gev: Tensor
    log_count_prob: Tensor
    scaler_is_fitted: Tensor

    SCALER_SHAPES = {  # noqa: RUF012
        "particle_mean": (3,),
        "particle_std": (3,),
        "pair_mean": (len(EDGE_FEATURES),),
        "pair_std": (len(EDGE_FEATURES),),
        "hyperedge_mean": (len(HYPEREDGE_FEATURES),),
        "hyperedge_std": (len(HYPEREDGE_FEATURES),),
        "jet_pt_gev": (),
        "log_count_prob": None,  # as many as there may be particles
    }

    def __init__(
        self,
        n_particles: int = 30,
        latent_dim: int = 24,
        particle_hidden: int = 64,
        edge_hidden: int = 48,
        hyperedge_hidden: int = 32,
        n_components: int = 12,
        n_edge_particles: int = 8,
        n_neighbours: int = 3,
        decoder_hidden: int = 256,
        encoder_dropout: float = 0.0,
        decoder_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_particles = n_particles
        self.latent_dim = latent_dim
        self.encoder = HypergraphEncoder(
            latent_dim, particle_hidden, edge_hidden, hyperedge_hidden, n_edge_particles, n_neighbours, encoder_dropout
        )
        self.decoder = MixtureDecoder(latent_dim, decoder_hidden, n_components, n_particles, decoder_dropout)
        for name, shape in self.SCALER_SHAPES.items():
            fill = torch.zeros if name.endswith(("mean", "prob")) else torch.ones
            self.register_buffer(name, fill((n_particles,) if shape is None else shape))
        self.register_buffer("scaler_is_fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def set_scaler(self, scaler: JetScaler) -> None:
        """Takes over the statistics of the training jets."""
        for name in self.SCALER_SHAPES:
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

    def encode(self, particles: Tensor, mask: Tensor, jet_pt: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | X), ``(B, d)`` each, from raw particles ``(B, N, 3)`` and jet pT (GeV)."""
        return self.encoder(self.graph(particles, mask, jet_pt))

    @torch.no_grad()
    def graph(self, particles: Tensor, mask: Tensor, jet_pt: Tensor) -> JetGraph:
        """The particles, pairs and hyperedges of a batch, scaled."""
        pairs, pair_mask = pair_features(*self._hardest(particles, mask), jet_pt)
        incidence, hyperedges, hyperedge_mask = knn_hyperedges(particles, mask, self.encoder.n_neighbours)
        return JetGraph(
            self.standardise(particles, mask),
            mask,
            particles[..., 2].float(),
            self._scale(pairs, self.pair_mean, self.pair_std, pair_mask),
            pair_mask,
            pairs[..., 4].exp(),
            incidence,
            self._scale(hyperedges, self.hyperedge_mean, self.hyperedge_std, hyperedge_mask),
            hyperedge_mask,
        )

    def decode(self, z: Tensor) -> MixtureParameters:
        """Parameters of p(X | z)."""
        return self.decoder(z)

    def _hardest(self, particles: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count = min(self.encoder.n_edge_particles, particles.shape[1])
        chosen = particles[..., 2].masked_fill(~mask, -1.0).topk(count, dim=1).indices
        return particles.gather(1, chosen[..., None].expand(-1, -1, 3)), mask.gather(1, chosen)

    @staticmethod
    def _scale(values: Tensor, mean: Tensor, std: Tensor, mask: Tensor) -> Tensor:
        scaled = ((values - mean) / std).clamp(-MAX_PULL, MAX_PULL)
        return scaled.masked_fill(~mask[..., None], 0.0)
