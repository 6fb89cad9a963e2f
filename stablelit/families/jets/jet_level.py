"""What all particles of a jet add up to, its mass and the sum of its ptrel, given its code and their number.

    p(ln m, s | z, n) = p(ln m | z, n) p(s | z, n, ln m),    m relative to the jet's pT, s = sum of ptrel

Both are histograms: bins between quantiles of the training jets, with probabilities of two small networks, and even
within a bin. They are fitted beside the autoencoder by cross-entropy, on codes without a gradient, so that the bound
and its code are what they would be without them. They are no part of the bound: a jet's particles say its mass already,
and to score both would count it twice. Sampling uses them (`sampling.calibrated`).

What that proves, and what not: heads that ignore the code have the mass spectrum of the training jets from the first
step on. A small distance between calibrated and real masses is therefore no merit of the decoder; the mass that it
draws itself is (``mass_w1_raw`` in the logs), and so is everything that is not calibrated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelit.families.jets.coordinates import JetCoordinates
from stablelit.families.jets.scaler import N_MASS_BINS, N_SUM_BINS, ln_relative_mass, quantile_levels


class JetLevelHeads(nn.Module):
    """The two histograms.

    Args:
        code_dim: size of the code.
        n_particles: largest n.
        hidden: width.
    """

    def __init__(self, code_dim: int, n_particles: int, hidden: int = 96) -> None:
        super().__init__()
        self.n_particles = n_particles
        given = code_dim + n_particles
        self.mass = nn.Sequential(nn.Linear(given, hidden), nn.ReLU(), nn.Linear(hidden, N_MASS_BINS))
        self.ptrel_sum = nn.Sequential(nn.Linear(given + 1, hidden), nn.ReLU(), nn.Linear(hidden, N_SUM_BINS))
        with torch.no_grad():
            # before it has learned anything, a head has the training jets' own distribution
            for head, n_bins in ((self.mass, N_MASS_BINS), (self.ptrel_sum, N_SUM_BINS)):
                head[-1].weight.mul_(0.1)
                head[-1].bias.copy_(quantile_levels(n_bins).diff().log())

    def nll(self, z: Tensor, particles: Tensor, mask: Tensor, coordinates: JetCoordinates) -> Tensor:
        """Cross-entropy of both bins, ``(B,)``; that of heads that ignore the code is 7.34 nats.

        Args:
            z: ``(B, code_dim)``; gets no gradient.
            particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
            mask: ``(B, N)`` bool.
            coordinates: the quantiles.
        """
        ln_mass = ln_relative_mass(particles, mask)
        given = self._given(z, mask)
        mass_bin = torch.bucketize(ln_mass, coordinates.ln_mass_quantiles[1:-1])
        ptrel_sum = (particles[..., 2] * mask).sum(dim=1).float()
        sum_bin = torch.bucketize(ptrel_sum, coordinates.ptrel_sum_quantiles[1:-1])
        mass_logits = self.mass(given).float()
        sum_logits = self.ptrel_sum(torch.cat([given, ln_mass[:, None].to(given.dtype)], dim=-1)).float()
        return F.cross_entropy(mass_logits, mass_bin, reduction="none") + F.cross_entropy(
            sum_logits, sum_bin, reduction="none"
        )

    @torch.no_grad()
    def draw(
        self, z: Tensor, mask: Tensor, coordinates: JetCoordinates, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draws m / pT and the sum of ptrel, ``(B,)`` each, for jets of as many particles as `mask` has."""
        given = self._given(z, mask)
        ln_mass = _draw(self.mass(given).float(), coordinates.ln_mass_quantiles, generator)
        sum_logits = self.ptrel_sum(torch.cat([given, ln_mass[:, None].to(given.dtype)], dim=-1)).float()
        return ln_mass.exp(), _draw(sum_logits, coordinates.ptrel_sum_quantiles, generator)

    def _given(self, z: Tensor, mask: Tensor) -> Tensor:
        count = F.one_hot(mask.sum(dim=1).clamp_min(1) - 1, self.n_particles)
        return torch.cat([z.detach(), count.to(z.dtype)], dim=-1)


def _draw(logits: Tensor, edges: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    share = torch.rand(chosen.shape, generator=generator, device=chosen.device)
    return torch.lerp(edges[chosen], edges[chosen + 1], share)
