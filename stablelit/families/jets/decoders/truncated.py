"""Mixtures of Gaussians whose first feature is cut off above: the probability that is left, and draws from it.

A particle that is softer than another has ln ptrel below that one's, ``x_0 < c``, so its density is::

    f_c(x) = f(x) / P(x_0 < c),    P(x_0 < c) = sum_k pi_k Phi((c - mu_k0) / sigma_k0)

with f the mixture and Phi the standard normal distribution function. Pure functions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# standard deviations; beyond them float32 has no digits left for the gradient of log Phi, and double none for Phi
FARTHEST_PULL, FARTHEST_DRAW = -300.0, -37.0


def log_probability_below(ceiling: Tensor, log_weight: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """``log P(x_0 < c)``, finite also where all components lie far above the ceiling.

    More than 300 standard deviations above it, a component counts as if it were at 300: that can only make the
    probability larger, so a density divided by it stays below the true one.

    Args:
        ceiling: c, ``(...)``, finite.
        log_weight: ``(..., K)`` log pi, normalised over K.
        mean: ``(..., K, 3)``.
        log_sigma: ``(..., K, 3)``.

    Returns:
        ``(...)`` nats.
    """
    pull = (ceiling[..., None] - mean[..., 0]) * torch.exp(-log_sigma[..., 0])
    return torch.logsumexp(log_weight + torch.special.log_ndtr(pull.clamp_min(FARTHEST_PULL)), dim=-1)


@torch.no_grad()
def draw_mixture(
    n: int, log_weight: Tensor, mean: Tensor, log_sigma: Tensor, generator: torch.Generator, ceiling: Tensor
) -> Tensor:
    """Draws n points of each mixture, with the first feature below the ceiling.

    A component is drawn in proportion to ``pi_k Phi(a_k)``, ``a_k = (c - mu_k0) / sigma_k0``, then the first feature by
    inversion, ``Phi^-1(u Phi(a_k))`` in double; below 37 standard deviations by ``-sqrt(a_k^2 - 2 ln u)``, the inverse
    of the Gaussian tail to relative order ``a_k^-2``.

    Args:
        n: points.
        log_weight: ``(B, K)``.
        mean: ``(B, K, 3)``.
        log_sigma: ``(B, K, 3)``.
        generator: on the device of the parameters.
        ceiling: c, ``(B,)``; infinity cuts nothing off.

    Returns:
        ``(B, n, 3)`` with ``[..., 0] <= c``.
    """
    pull = (ceiling[:, None] - mean[..., 0]) * torch.exp(-log_sigma[..., 0])
    weight = torch.softmax(log_weight + torch.special.log_ndtr(pull.clamp_min(FARTHEST_PULL)), dim=-1)
    component = torch.multinomial(weight, n, replacement=True, generator=generator)
    chosen = component[..., None].expand(-1, -1, 3)
    noise = torch.randn(chosen.shape, generator=generator, device=mean.device)
    limit = pull.gather(1, component).double()
    uniform = torch.rand(limit.shape, generator=generator, device=mean.device, dtype=torch.double).clamp_min(1e-300)
    # torch.special.ndtr is (1 + erf) / 2, which is zero in the tail
    below = 0.5 * torch.erfc(-limit * math.sqrt(0.5))
    inside = torch.special.ndtri((uniform * below).clamp(1e-300, 1.0 - 1e-16))
    tail = -torch.sqrt(limit.clamp_max(0.0).square() - 2.0 * uniform.log())
    noise[..., 0] = torch.where(limit > FARTHEST_DRAW, inside, tail).to(noise.dtype)
    x = mean.gather(1, chosen) + noise * log_sigma.gather(1, chosen).exp()
    # the last digit of float32 may lie above
    x[..., 0] = torch.minimum(x[..., 0], ceiling[:, None])
    return x
