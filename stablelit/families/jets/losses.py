"""The likelihood of a jet, in nats per jet, summed over particles and features. Pure functions, computed in float32.

A jet is n particles x_i = (ln ptrel, etarel, phirel), standardised by the training set, *in any order*: log p(X | z) is
the density of the list of its n particles, the same for each of the n! orders. (Ordered by hardness it is one list, of
n! times that density: ln n! nats less, the same number for every model.) So no order is learned, and a weight of 1 on
the KL term is the evidence lower bound. Which densities there are: `decoders`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_SIGMA_RANGE = (-4.0, 2.0)
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def mixture_log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """``log sum_k pi_k N(x_i; mu_k, diag sigma_k^2)`` of every particle.

    Args:
        x: ``(B, N, 3)`` standardised particles.
        log_weight: ``(B, K)`` log pi, normalised over K.
        mean: ``(B, K, 3)``.
        log_sigma: ``(B, K, 3)``.

    Returns:
        ``(B, N)`` nats.
    """
    inverse = torch.exp(-log_sigma)
    shift = mean * inverse
    constant = log_weight - log_sigma.sum(-1) - x.shape[-1] * _HALF_LOG_TWO_PI
    exponent = constant[:, None, :].expand(-1, x.shape[1], -1)
    # a loop over three features: a reduction over a last dimension of size three is slow
    for feature in range(x.shape[-1]):
        pull = torch.addcmul(-shift[:, None, :, feature], x[:, :, feature, None], inverse[:, None, :, feature])
        exponent = torch.addcmul(exponent, pull, pull, value=-0.5)
    return torch.logsumexp(exponent, dim=-1)


def count_nll(count_logits: Tensor, mask: Tensor) -> Tensor:
    """``-log p(n | z)`` of the number of particles.

    Args:
        count_logits: ``(B, N_max)`` unnormalised log p(n | z) for n = 1 ... N_max.
        mask: ``(B, N)`` bool.

    Returns:
        ``(B,)`` nats.
    """
    n_particles = mask.sum(dim=1).clamp_min(1)
    return F.cross_entropy(count_logits, n_particles - 1, reduction="none")


def one_gaussian_nll(x: Tensor, mask: Tensor, log_count_prob: Tensor) -> Tensor:
    """The trivial baseline: n by its training frequency, and every particle from one Gaussian, no latent.

    ``-log p(n) - sum_i log N(x_i; 0, 1)``: in coordinates standardised by the training set, that Gaussian is the
    standard one.

    Args:
        x: ``(B, N, 3)`` standardised particles.
        mask: ``(B, N)`` bool.
        log_count_prob: ``(N,)`` log p(n) for n = 1 ... N.

    Returns:
        ``(B,)`` nats.
    """
    per_particle = 0.5 * x.square().sum(dim=-1) + x.shape[-1] * _HALF_LOG_TWO_PI
    n_particles = mask.sum(dim=1).clamp_min(1)
    return per_particle.masked_fill(~mask, 0.0).sum(dim=1) - log_count_prob[n_particles - 1]
