"""The exchangeable mixture: given z, particles are independent draws from one density.

log p(X | z) = log p(n | z) + sum_{i=1..n} log sum_k pi_k(z) N(x_i; mu_k(z), diag sigma_k(z)^2)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.families.jets.decoders import JetDecoder, check_sizes, hidden_layers
from stablelit.families.jets.losses import LOG_SIGMA_RANGE, count_nll, mixture_log_density


class MixtureParameters(NamedTuple):
    """What the decoder says of a jet."""

    count_logits: Tensor  # (B, N_max) unnormalised log p(n | z)
    log_weight: Tensor  # (B, K) log pi
    mean: Tensor  # (B, K, 3)
    log_sigma: Tensor  # (B, K, 3)


class MixtureDecoder(JetDecoder):
    """z to the parameters of ``log p(n | z)`` and of the mixture over particles.

    Args:
        code_dim: size of z.
        n_particles: largest n.
        hidden: width; it runs once a jet, not once a particle, so width is cheap.
        n_components: K.
        dropout: after each hidden layer.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self, code_dim: int, n_particles: int, hidden: int = 256, n_components: int = 12, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, dropout, hidden=hidden, n_components=n_components)
        self.n_components = n_components
        self.n_particles = n_particles
        self.body = nn.Sequential(*hidden_layers(code_dim, hidden, dropout))
        self.out = nn.Linear(hidden, n_particles + 7 * n_components)
        # spread the components at the start: equal ones would move together
        with torch.no_grad():
            self.out.bias[n_particles + n_components : n_particles + 4 * n_components].normal_(0.0, 0.5)

    def forward(self, z: Tensor) -> MixtureParameters:
        """Decodes ``(B, code_dim)``; the parameters are float32 also under autocast."""
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

    def recon_terms(self, z: Tensor, x: Tensor, mask: Tensor, graph: JetGraph | None = None) -> dict[str, Tensor]:
        """``recon``, and its parts ``count`` (number of particles) and ``particles``."""
        del graph
        decoded = self(z)
        count = count_nll(decoded.count_logits, mask)
        density = mixture_log_density(x, decoded.log_weight, decoded.mean, decoded.log_sigma)
        particles = -density.masked_fill(~mask, 0.0).sum(dim=1)
        return {"recon": count + particles, "count": count, "particles": particles}

    @torch.no_grad()
    def draw(
        self,
        z: Tensor,
        generator: torch.Generator,
        coordinates: JetCoordinates | None = None,
        jet_pt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws n from p(n | z), then n particles from the mixture."""
        del coordinates, jet_pt
        decoded = self(z)
        count = 1 + torch.multinomial(decoded.count_logits.softmax(-1), 1, generator=generator)
        mask = torch.arange(self.n_particles, device=z.device) < count
        component = torch.multinomial(decoded.log_weight.exp(), self.n_particles, replacement=True, generator=generator)
        component = component[..., None].expand(-1, -1, 3)
        noise = torch.randn((*mask.shape, 3), generator=generator, device=z.device)
        return decoded.mean.gather(1, component) + noise * decoded.log_sigma.gather(1, component).exp(), mask
