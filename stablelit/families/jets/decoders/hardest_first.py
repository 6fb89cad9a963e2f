"""The hardest particles one after another, the rest an exchangeable mixture.

Given z, and with particles ordered by falling ln ptrel (x_1 is the hardest)::

    log p(X | z) = log p(n | z) + sum_{l=1..min(n, L)} log f_l(x_l | z, x_1 ... x_{l-1}; x_l0 < x_{l-1,0})
                 + sum_{i=L+1..n} log g(x_i | z, x_1 ... x_L; x_i0 < x_L0)  -  log(n! / (n - min(n, L))!)

f_l and g are mixtures of Gaussians, each cut off above at the softest particle before it (`truncated`). Particles that
are drawn independently given z, as in `mixture`, smear whatever all of them add up to: the mass, the sum of ptrel. Here
the few that carry most of the momentum know of each other, and the others know of them.

The last term makes the two comparable. The first two sums are the density of a jet whose L hardest are *named* and
whose others are listed in any order; there are n! / (n - L)! as many lists of all n in any order, which `mixture` has
the density of. With it, nats of both are nats of one quantity, and an integral over all lists of n particles is p(n|z).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stablelit.families.jets.coordinates import JetCoordinates, JetGraph
from stablelit.families.jets.decoders import JetDecoder, check_sizes, hidden_layers
from stablelit.families.jets.decoders.truncated import draw_mixture, log_probability_below
from stablelit.families.jets.losses import LOG_SIGMA_RANGE, count_nll, mixture_log_density

Mixture = tuple[Tensor, Tensor, Tensor]  # log_weight (..., K), mean (..., K, 3), log_sigma (..., K, 3)


class HardestFirstDecoder(JetDecoder):
    """z to ``p(n | z)``, to the densities of the hardest particles in turn, and to that of the rest.

    Args:
        code_dim: size of z.
        n_particles: largest n.
        hidden: width of the network of the rest.
        n_components: K of the mixture of the rest.
        n_hardest: L, the particles that are modelled one after another.
        hardest_hidden: width of their networks.
        n_hardest_components: of each of their mixtures.
        dropout: after each hidden layer.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self,
        code_dim: int,
        n_particles: int,
        hidden: int = 256,
        n_components: int = 24,
        n_hardest: int = 4,
        hardest_hidden: int = 96,
        n_hardest_components: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(
            type(self).__name__,
            dropout,
            hidden=hidden,
            n_components=n_components,
            n_hardest=n_hardest,
            hardest_hidden=hardest_hidden,
            n_hardest_components=n_hardest_components,
        )
        # a jet that is padded to fewer particles has no others
        self.n_hardest = min(n_hardest, n_particles)
        self.n_particles = n_particles
        given = code_dim + 3 * self.n_hardest
        self.count = nn.Sequential(nn.Linear(code_dim, 64), nn.ReLU(), nn.Linear(64, n_particles))
        self.hardest = _OneAfterAnother(code_dim, self.n_hardest, hardest_hidden, 7 * n_hardest_components, dropout)
        layers = hidden_layers(given + self.n_hardest, hidden, dropout)
        self.rest = nn.Sequential(*layers, nn.Linear(hidden, 7 * n_components))
        # spread the components at the start: equal ones would move together
        with torch.no_grad():
            for bias, k in ((self.rest[-1].bias, n_components), (self.hardest.out_bias, n_hardest_components)):
                bias[..., k : 4 * k].normal_(0.0, 0.5)

    def recon_terms(self, z: Tensor, x: Tensor, mask: Tensor, graph: JetGraph | None = None) -> dict[str, Tensor]:
        """``recon``, and its parts ``count`` (with the term of the orders), ``hardest`` and ``rest``."""
        del graph
        x, mask = hardest_first(x, mask)
        first = self.n_hardest
        hard, hard_mask, soft, soft_mask = x[:, :first], mask[:, :first], x[:, first:], mask[:, first:]
        density = self._density_of_hardest(z, hard).masked_fill(~hard_mask, 0.0)
        hardest = -density.sum(dim=1)
        mixture = self._rest(z, hard, hard_mask)
        left = log_probability_below(hard[:, -1, 0], *mixture)
        density = (mixture_log_density(soft, *mixture) - left[:, None]).masked_fill(~soft_mask, 0.0)
        rest = -density.sum(dim=1)
        n = mask.sum(dim=1)
        orders = torch.lgamma(n + 1.0) - torch.lgamma((n - first).clamp_min(0) + 1.0)
        count = count_nll(self.count(z).float(), mask) + orders
        return {"recon": count + hardest + rest, "count": count, "hardest": hardest, "rest": rest}

    @torch.no_grad()
    def draw(
        self,
        z: Tensor,
        generator: torch.Generator,
        coordinates: JetCoordinates | None = None,
        jet_pt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws n, then the hardest in turn, then the rest."""
        del coordinates, jet_pt
        count = 1 + torch.multinomial(self.count(z).float().softmax(-1), 1, generator=generator)
        mask = torch.arange(self.n_particles, device=z.device) < count
        hard = torch.zeros((len(z), self.n_hardest, 3), device=z.device)
        ceiling = torch.full((len(z),), math.inf, device=z.device)
        for place in range(self.n_hardest):
            mixture = _as_mixture(self.hardest.one(z, hard, place))
            # absent ones are zeros, as in training
            hard[:, place] = draw_mixture(1, *mixture, generator, ceiling)[:, 0] * mask[:, place, None]
            ceiling = hard[:, place, 0]
        parts = [hard]
        if (left := self.n_particles - self.n_hardest) > 0:
            mixture = self._rest(z, hard, mask[:, : self.n_hardest])
            parts.append(draw_mixture(left, *mixture, generator, ceiling))
        return torch.cat(parts, dim=1), mask

    def _density_of_hardest(self, z: Tensor, hard: Tensor) -> Tensor:
        """``log f_l`` of the hardest, ``(B, L)``."""
        log_weight, mean, log_sigma = _as_mixture(self.hardest(z, hard))  # (L, B, ...)
        points = hard.transpose(0, 1)
        flat = (part.flatten(0, 1) for part in (log_weight, mean, log_sigma))
        density = mixture_log_density(points.flatten(0, 1)[:, None], *flat).view(points.shape[:2])
        # nothing is above the hardest
        below = log_probability_below(points[:-1, :, 0], log_weight[1:], mean[1:], log_sigma[1:])
        return torch.cat([density[:1], density[1:] - below]).t()

    def _rest(self, z: Tensor, hard: Tensor, hard_mask: Tensor) -> Mixture:
        return _as_mixture(self.rest(torch.cat([z, hard.flatten(1), hard_mask.to(z.dtype)], dim=-1)))


class _OneAfterAnother(nn.Module):
    """L networks side by side; the l-th sees the code and the l - 1 particles before, ``(L, B, out)``."""

    causal: Tensor

    def __init__(self, code_dim: int, n_places: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        given = code_dim + 3 * n_places

        def weight(inputs: int, outputs: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(n_places, inputs, outputs) * gain / math.sqrt(inputs))

        self.first, self.second, self.out = weight(given, hidden), weight(hidden, hidden), weight(hidden, out, 0.3)
        self.first_bias = nn.Parameter(torch.zeros(n_places, 1, hidden))
        self.second_bias = nn.Parameter(torch.zeros(n_places, 1, hidden))
        self.out_bias = nn.Parameter(torch.zeros(n_places, 1, out))
        self.dropout = nn.Dropout(dropout)
        causal = torch.arange(given) < code_dim + 3 * torch.arange(n_places)[:, None]
        self.register_buffer("causal", causal[..., None].float(), persistent=False)

    def forward(self, z: Tensor, hard: Tensor) -> Tensor:
        inputs = torch.cat([z, hard.flatten(1)], dim=-1).expand(len(self.first), -1, -1)
        return self._layers(inputs, slice(None))

    def one(self, z: Tensor, hard: Tensor, place: int) -> Tensor:
        """The outputs of one place alone, ``(B, out)``."""
        return self._layers(torch.cat([z, hard.flatten(1)], dim=-1)[None], slice(place, place + 1))[0]

    def _layers(self, inputs: Tensor, places: slice) -> Tensor:
        first = self.first[places] * self.causal[places]
        hidden = self.dropout(torch.relu(torch.baddbmm(self.first_bias[places], inputs, first)))
        hidden = self.dropout(torch.relu(torch.baddbmm(self.second_bias[places], hidden, self.second[places])))
        return torch.baddbmm(self.out_bias[places], hidden, self.out[places])


def hardest_first(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Particles ordered by falling first feature, those of equal one by the second; absent ones last and zero."""
    order = x[..., 1].argsort(dim=1, stable=True)
    ln_ptrel = x[..., 0].masked_fill(~mask, -math.inf).gather(1, order)
    order = order.gather(1, ln_ptrel.argsort(dim=1, descending=True, stable=True))
    mask = mask.gather(1, order)
    return x.gather(1, order[..., None].expand(-1, -1, 3)).masked_fill(~mask[..., None], 0.0), mask


def _as_mixture(outputs: Tensor) -> Mixture:
    """Outputs ``(..., 7 K)`` to a mixture, float32 also under autocast."""
    k = outputs.shape[-1] // 7
    weight, mean, log_sigma = outputs.float().split([k, 3 * k, 3 * k], dim=-1)
    log_sigma = log_sigma.unflatten(-1, (k, 3)).clamp(*LOG_SIGMA_RANGE)
    return torch.log_softmax(weight, dim=-1), mean.unflatten(-1, (k, 3)), log_sigma
