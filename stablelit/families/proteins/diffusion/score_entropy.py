r"""Score entropy, which is zero where the modelled ratios are the true ones and positive elsewhere.

A score is a ratio of probabilities, :math:`s_y = p(y) / p(x)` of two sequences that differ at one residue. With true
ratios :math:`r_y`, weights :math:`w_y` and :math:`K(r) = r (\log r - 1)`, score entropy per residue is

.. math:: \ell = \sum_{y \ne x} w_y [ s_y - r_y \log s_y + K(r_y) ]
               = \sum_{y \ne x} w_y r_y \phi(\log s_y - \log r_y), \qquad \phi(d) = e^d - 1 - d \ge 0 .

The second form is the one computed: no digit is lost at small noise, where r and log r are large and cancel, and no
rounding makes it negative. For the absorbing graph it is :math:`r = 1 / (e^\sigma - 1)` times a *cost* that knows no
sigma, see `denoising_cost`. Everything is in float32 or better, whatever autocast says.

Source: Lou et al. 2024 (arXiv:2310.16834), eq. 5 and 8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.families.proteins.diffusion.noise import log_expm1


def at_least_float32(x: Tensor) -> Tensor:
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def bregman(d: Tensor) -> Tensor:
    r""":math:`\phi(d) = e^d - 1 - d`, right to a rounding error of d, and never negative."""
    return (torch.expm1(d) - d).clamp(min=0)


def log_score_from(h: Tensor, sigma: Tensor, n_states: int | None = None) -> Tensor:
    r"""Log scores of the absorbing graph from a head's output: :math:`\log s = h - \log(e^\sigma - 1) - \log N`.

    A head that gives zeros then predicts the right size of the score at every sigma, and loses log N nats per residue.

    Args:
        h: ``(B, L, N)``.
        sigma: ``(B,)`` or ``(B, 1)``.
        n_states: N; None takes it from `h`.

    Returns:
        ``(B, L, N)``, float32 or better.
    """
    n = h.shape[-1] if n_states is None else n_states
    return at_least_float32(h) - log_expm1(per_sequence(sigma))[..., None] - math.log(n)


def log_probabilities(h: Tensor) -> Tensor:
    """Logarithms of p(x0 | xt), a softmax over the clean states (SUBS): ``(B, L, N)``, float32 or better."""
    return torch.log_softmax(at_least_float32(h), dim=-1)


def log_score_of_probabilities(log_p: Tensor, sigma: Tensor) -> Tensor:
    r"""Log scores of the absorbing graph that p(x0 | xt) implies: :math:`s_y = p_y / (e^\sigma - 1)`.

    Args:
        log_p: ``(B, L, N)``.
        sigma: ``(B,)`` or ``(B, 1)``.
    """
    return at_least_float32(log_p) - log_expm1(per_sequence(sigma))[..., None]


def denoising_cost(log_p: Tensor, x0: Tensor, sites: Tensor | None = None) -> Tensor:
    r"""What a masked residue costs in units of :math:`1 / (e^\sigma - 1)`: :math:`\sum_y p_y - 1 - \log p_{x_0}`.

    p are scores times :math:`e^\sigma - 1`, which need not add up to 1. Where they do it is the cross-entropy; where
    not, it is larger by :math:`\sum p - 1 - \log \sum p \ge 0`.

    Args:
        log_p: ``(B, L, N)``, unnormalised.
        x0: ``(B, L)`` clean states; codes of N and more give a number without meaning, to be masked by the caller.
        sites: ``(B, L)`` bool, the residues that count; others cost 0. None is all. Masking the result instead gives
            NaN gradients where `log_p` overflows at residues that no loss restrains.

    Returns:
        ``(B, L)``, nats, at least 0.
    """
    log_p = at_least_float32(log_p)
    if sites is not None:
        log_p = torch.where(sites[..., None], log_p, 0.0)
    true = x0.clamp(0, log_p.shape[-1] - 1)[..., None]
    at_true = log_p.gather(-1, true).squeeze(-1)
    others = log_p.exp().sum(-1) - at_true.exp()
    cost = bregman(at_true) + others.clamp(min=0)
    return cost if sites is None else torch.where(sites, cost, 0.0)


def cross_entropy(log_p: Tensor, x0: Tensor) -> Tensor:
    r""":math:`-\log p_{x_0}` of normalised log probabilities ``(B, L, N)`` at clean states ``(B, L)``, in nats."""
    log_p = at_least_float32(log_p)
    return -log_p.gather(-1, x0.clamp(0, log_p.shape[-1] - 1)[..., None]).squeeze(-1)


def per_sequence(values: Tensor) -> Tensor:
    """``(B,)`` or ``(B, 1)`` to ``(B, 1)``, float32 or better."""
    return at_least_float32(values).reshape(-1, 1)
