"""Ordered particle slots beside heads for pairs and hyperedges: the decoder of a published hypergraph VAE.

The code is widened and split into branches, one for particles, one for pairs, one for hyperedges::

    recon = w_particle L(slots, particles) + w_count (-log p(n | z)) + w_edge |e - mean pair|^2 / 5
          + w_hyperedge |h - mean hyperedge|^2 / 2 + w_topology (number of hyperedges - predicted number)^2

with L one of `slot_losses`: ``nll`` (with the weights of the defaults, `recon` is a bound in nats), ``mse``,
``chamfer`` or ``hungarian`` (losses that are no likelihoods: a KL in nats beside them is worth what the weights say).

The term `topology` is kept for what it teaches, and off unless asked for: it is a constant to the gradient, and with
all triplets and quadruplets it is 1e9 (see `slot_losses.hyperedge_count_error`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelit.errors import ContractError, bad_argument, did_you_mean
from stablelit.families.jets import slot_losses
from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.families.jets.decoders import JetDecoder, check_sizes
from stablelit.families.jets.features import EDGE_FEATURES, HYPEREDGE_FEATURES
from stablelit.families.jets.losses import LOG_SIGMA_RANGE, count_nll
from stablelit.functional.schedules import check_number

PARTICLE_LOSSES = ("nll", "mse", "chamfer", "hungarian")
TARGETS = ("normalised", "raw")
ACTIVATIONS = ("none", "physical")
# of ln GeV and ln rad: wide enough for a particle of a few TeV
RAW_LOG_SIGMA_RANGE = (-7.0, 7.0)
_SMALLEST_PT_GEV = 1e-3


class SlotsDecoder(JetDecoder):
    """z to N slots, hardest first, to p(n | z), and to the means of a jet's pairs and hyperedges.

    Args:
        code_dim: size of z.
        n_particles: N, the largest n.
        particle_hidden: width of the particle branch.
        edge_hidden: width of the branch of pairs.
        hyperedge_hidden: width of the branch of hyperedges.
        particle_loss: "nll" (a Gaussian a slot), "mse", "chamfer" or "hungarian" (needs scipy).
        targets: "normalised" (scaled ln ptrel, etarel, phirel) or "raw" (pT in GeV, etarel, phirel, unscaled).
        output_activation: "none", or "physical": ``100 softplus``, ``2.5 tanh``, ``pi tanh`` for pT, eta and phi. Those
            are for raw targets; a scaled ln ptrel below zero is out of their reach.
        particle_weight: of the particle loss.
        edge_weight: of the pairs; 0 leaves the branch out.
        hyperedge_weight: of the hyperedges; 0 leaves the branch out.
        count_weight: of ``-log p(n | z)``; with 0, n is drawn as it is distributed in training.
        topology_weight: of the number of hyperedges. Its gradient is zero: it can only hide the other terms.
        dropout: after each hidden layer.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self,
        code_dim: int,
        n_particles: int,
        particle_hidden: int = 64,
        edge_hidden: int = 48,
        hyperedge_hidden: int = 32,
        particle_loss: str = "nll",
        targets: str = "normalised",
        output_activation: str = "none",
        particle_weight: float = 1.0,
        edge_weight: float = 0.0,
        hyperedge_weight: float = 0.0,
        count_weight: float = 1.0,
        topology_weight: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_sizes(
            owner,
            dropout,
            particle_hidden=particle_hidden,
            edge_hidden=edge_hidden,
            hyperedge_hidden=hyperedge_hidden,
        )
        for name, choice, known in (
            ("particle_loss", particle_loss, PARTICLE_LOSSES),
            ("targets", targets, TARGETS),
            ("output_activation", output_activation, ACTIVATIONS),
        ):
            if choice not in known:
                raise bad_argument(owner, name, choice, ", ".join(known), did_you_mean(str(choice), known))
        self.weights = {
            "particles": check_number(owner, "particle_weight", particle_weight, above=0.0),
            "count": check_number(owner, "count_weight", count_weight, at_least=0.0),
            "edges": check_number(owner, "edge_weight", edge_weight, at_least=0.0),
            "hyperedges": check_number(owner, "hyperedge_weight", hyperedge_weight, at_least=0.0),
            "topology": check_number(owner, "topology_weight", topology_weight, at_least=0.0),
        }
        self.n_particles = n_particles
        self.particle_loss, self.targets, self.output_activation = particle_loss, targets, output_activation
        # a branch that no term asks for would have parameters without a gradient, which stops DDP
        self.widths = [
            particle_hidden,
            edge_hidden if edge_weight else 0,
            hyperedge_hidden if hyperedge_weight or topology_weight else 0,
        ]
        self.body = nn.Sequential(
            nn.Linear(code_dim, 2 * code_dim),
            nn.LayerNorm(2 * code_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * code_dim, sum(self.widths)),
        )
        per_slot = 6 if particle_loss == "nll" else 3
        self.particles = _head(particle_hidden, n_particles * per_slot, dropout)
        self.count = nn.Linear(particle_hidden, n_particles)
        self.edges = _head(edge_hidden, len(EDGE_FEATURES), dropout) if self.widths[1] else None
        # of each hyperedge slot, its features and the logit of its existence
        per_hyperedge = max(1, n_particles // 3) * (len(HYPEREDGE_FEATURES) + 1)
        self.hyperedges = _head(hyperedge_hidden, per_hyperedge, dropout) if self.widths[2] else None

    @property
    def is_likelihood(self) -> bool:
        """Whether `recon` is minus a log density of the set in the coordinates of the other decoders."""
        nats = {"particles": 1.0, "count": 1.0, "edges": 0.0, "hyperedges": 0.0, "topology": 0.0}
        return self.particle_loss == "nll" and self.targets == "normalised" and self.weights == nats

    def recon_terms(self, z: Tensor, x: Tensor, mask: Tensor, graph: JetGraph | None = None) -> dict[str, Tensor]:
        """``recon``, and the weighted terms that add up to it: `particles`, `count`, and those that have a weight."""
        slots, log_sigma, count_logits, edges, hyperedges = self._decoded(z)
        if graph is None and (self.targets == "raw" or edges is not None or hyperedges is not None):
            raise ContractError(
                "SlotsDecoder.recon_terms needs `graph` (the batch as `JetCoordinates.graph` makes it) for raw "
                "targets, pairs and hyperedges."
            )
        if self.targets == "raw":
            assert graph is not None
            eta, phi, ptrel = graph.particles.float().unbind(-1)
            x = torch.stack([ptrel * graph.jet_pt.float()[:, None], eta, phi], dim=-1)
        if log_sigma is not None:
            terms = {"particles": slot_losses.slot_nll(slots, log_sigma, x, mask)}
        else:
            loss = {"mse": slot_losses.slot_mse, "chamfer": slot_losses.chamfer, "hungarian": slot_losses.hungarian}
            terms = {"particles": loss[self.particle_loss](slots, x, mask)}
        terms["count"] = count_nll(count_logits, mask)
        if edges is not None:
            assert graph is not None
            terms["edges"] = _distance_to_mean(edges, graph.pairs, graph.pair_mask)
        if hyperedges is not None:
            assert graph is not None
            features, logits = hyperedges[..., :-1], hyperedges[..., -1]
            exists = torch.sigmoid(logits)[..., None]
            mean = (features * exists).sum(dim=1) / exists.sum(dim=1).clamp_min(1e-6)
            terms["hyperedges"] = _distance_to_mean(mean, graph.hyperedges, graph.hyperedge_mask)
            if self.weights["topology"]:
                terms["topology"] = slot_losses.hyperedge_count_error(logits, mask)
        terms = {name: self.weights[name] * term for name, term in terms.items()}
        return {"recon": torch.stack(list(terms.values())).sum(dim=0), **terms}

    def draw(
        self,
        z: Tensor,
        generator: torch.Generator,
        coordinates: JetCoordinates | None = None,
        jet_pt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws n, and takes the first n slots: their Gaussians' draws for `nll`, the slots themselves otherwise."""
        slots, log_sigma, count_logits, _, _ = self._decoded(z)
        if not self.weights["count"] and coordinates is not None:
            count_logits = coordinates.log_count_prob.expand_as(count_logits)
        count = 1 + torch.multinomial(count_logits.softmax(-1), 1, generator=generator)
        mask = torch.arange(self.n_particles, device=z.device) < count
        if log_sigma is not None:
            slots = slots + log_sigma.exp() * torch.randn(slots.shape, generator=generator, device=z.device)
        if self.targets == "normalised":
            return slots, mask
        if coordinates is None or jet_pt is None:
            raise ContractError("SlotsDecoder.draw needs `coordinates` and `jet_pt` where its targets are raw.")
        pt, eta, phi = slots.unbind(-1)
        ptrel = pt.clamp_min(_SMALLEST_PT_GEV) / jet_pt[:, None]
        return coordinates.standardise(torch.stack([eta, phi, ptrel], dim=-1), mask), mask

    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
        """Slots, their log sigma, logits of n, the mean pair, and the hyperedge slots; float32 also under autocast."""
        particle, edge, hyperedge = self.body(z).split(self.widths, dim=-1)
        slots = self.particles(particle).float().unflatten(-1, (self.n_particles, -1))
        log_sigma = None
        if self.particle_loss == "nll":
            slots, log_sigma = slots.chunk(2, dim=-1)
            log_sigma = log_sigma.clamp(*(LOG_SIGMA_RANGE if self.targets == "normalised" else RAW_LOG_SIGMA_RANGE))
        if self.output_activation == "physical":
            pt, eta, phi = slots.unbind(-1)
            slots = torch.stack([100.0 * F.softplus(pt), 2.5 * torch.tanh(eta), math.pi * torch.tanh(phi)], dim=-1)
        edges = None if self.edges is None else self.edges(edge).float()
        hyperedges = None
        if self.hyperedges is not None:
            hyperedges = self.hyperedges(hyperedge).float().unflatten(-1, (-1, len(HYPEREDGE_FEATURES) + 1))
        return slots, log_sigma, self.count(particle).float(), edges, hyperedges


def _head(width: int, n_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, n_out))


def _distance_to_mean(predicted: Tensor, features: Tensor, mask: Tensor) -> Tensor:
    """``|predicted - mean of the features that are there|^2 / F``, ``(B,)``; zero where none is."""
    count = mask.sum(dim=1)
    mean = features.masked_fill(~mask[..., None], 0.0).sum(dim=1) / count.clamp_min(1)[:, None]
    return (predicted - mean).square().mean(dim=-1).masked_fill(count == 0, 0.0)
