r"""Estimates of one bound of :math:`-\log p(x_0)` for the absorbing graph, and what adds them up.

All are a weight of the sequence times the sum over its masked residues of what they cost (`cross_entropy` for a model
of p(x0 | xt), `denoising_cost` for scores that need not be normalised); they differ in how masks are drawn:

========  ==========================================================  =========================================
form      masks                                                       weight
========  ==========================================================  =========================================
t         each residue with :math:`1 - e^{-\sigma(t)}`, t uniform     :math:`\sigma'(t) / (e^{\sigma(t)} - 1)`
lambda    each residue with :math:`\lambda`, uniform in (0, 1)        :math:`1 / \lambda`
k         exactly k of n residues, k uniform in 1..n                  :math:`n / k`
========  ==========================================================  =========================================

The t form with `denoising_cost` is SEDD's (DWDSE), with `cross_entropy` MDLM's (SUBS); the k form is the bound of an
any-order autoregressive model. Their means agree, up to the ends of the noise schedule, which lambda and k do not have.
The k form is the least noisy: with a cost c per residue of a perfect model, B sequences and times from eps, the t form
has the variance :math:`c^2 (\log(1/\epsilon) - 1) / (L B)` per residue, and the k form none.

Sources: Lou et al. 2024 (arXiv:2310.16834), eq. 5; Sahoo et al. 2024 (arXiv:2406.07524), eq. 10; Ou et al. 2024
(arXiv:2406.03736), theorem 2 and section 3.3; Uria et al. 2014 (arXiv:1310.1757).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, Graph
from stablelit.families.proteins.diffusion.noise import Noise, log_expm1
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.families.proteins.diffusion.score_entropy import at_least_float32, cross_entropy, per_sequence

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(xt ``(B, L)``, sigma ``(B,)``) -> log p(x0 | xt), ``(B, L, N)``."""


@dataclass(frozen=True)
class Masking:
    """Sequences with masks, and what an estimate of the bound needs to know of them.

    Args:
        xt: ``(B, L)``.
        masked: ``(B, L)`` bool.
        weight: ``(B,)``, by which the summed cost of the masked residues is multiplied.
        sigma: ``(B,)``, the noise that goes with the share of masks, for models that want to be told.
    """

    xt: Tensor
    masked: Tensor
    weight: Tensor
    sigma: Tensor


def mask_by_sigma(
    graph: AbsorbingGraph, x0: Tensor, loss_mask: Tensor, sigma: Tensor, rate: Tensor, generator: RandomSource
) -> Masking:
    r"""Masks of the t form: every residue by itself with :math:`1 - e^{-\sigma}`; see `t_weight`.

    Args:
        graph: whose mask is put.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool, the residues that may be masked.
        sigma: ``(B,)``.
        rate: ``(B,)``, sigma'(t).
        generator: of the masks.
    """
    xt = graph.corrupt(x0, sigma, generator, loss_mask)
    return Masking(xt, (xt == graph.mask) & loss_mask, t_weight(sigma, rate), at_least_float32(sigma))


def mask_by_rate(
    graph: AbsorbingGraph, x0: Tensor, loss_mask: Tensor, mask_rate: Tensor, generator: RandomSource
) -> Masking:
    """Masks of the lambda form: every residue by itself with `mask_rate` ``(B,)``, in (0, 1]; weight 1 / lambda."""
    drawn = uniform((x0.shape[0], x0.shape[1]), generator, x0.device)
    masked = (drawn < mask_rate[:, None]) & loss_mask
    return Masking(torch.where(masked, graph.mask, x0), masked, 1 / mask_rate, -torch.log1p(-mask_rate))


def mask_k(
    graph: AbsorbingGraph,
    x0: Tensor,
    loss_mask: Tensor,
    k: Tensor,
    generator: RandomSource,
    largest_sigma: float = torch.inf,
) -> Masking:
    r"""Masks of the k form: `k` ``(B,)`` of the residues of `loss_mask`, all choices alike; weight n / k.

    Args:
        graph: whose mask is put.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool, the residues that may be masked; n of a sequence.
        k: ``(B,)``, 1 to n; a sequence with n = 0 gets no mask and the weight 0.
        generator: of the choice.
        largest_sigma: what sigma = -log(1 - k/n) is capped at, sigma(1) of a model that is told sigma.
    """
    masked = choose_k(loss_mask, k, generator)
    n = loss_mask.sum(1)
    share = k.clamp(min=1).float() / n.clamp(min=1)
    weight = torch.where(n > 0, 1 / share, 0.0)
    sigma = -torch.log1p(-share.clamp(max=1.0))
    return Masking(torch.where(masked, graph.mask, x0), masked, weight, sigma.clamp(max=largest_sigma))


def draw_k(loss_mask: Tensor, generator: RandomSource) -> Tensor:
    """Numbers of masks of the k form, ``(B,)``: uniform in 1..n, n the True of a row of `loss_mask` ``(B, L)``."""
    return k_at(uniform((loss_mask.shape[0],), generator, loss_mask.device, torch.float64), loss_mask)


def k_at(u: Tensor, loss_mask: Tensor) -> Tensor:
    r"""The number of masks ``(B,)`` at the share u ``(B,)`` in [0, 1) of 1..n: :math:`1 + \lfloor u n \rfloor`."""
    n = loss_mask.sum(1)
    return (u * n).long().clamp(max=n - 1).clamp(min=0) + 1


def choose_k(loss_mask: Tensor, k: Tensor, generator: RandomSource) -> Tensor:
    """Chooses k of the True of every row of `loss_mask` ``(B, L)``, all choices alike: ``(B, L)`` bool."""
    keys = uniform((loss_mask.shape[0], loss_mask.shape[1]), generator, loss_mask.device)
    order = keys.masked_fill(~loss_mask, 2.0).argsort(dim=1)
    places = torch.arange(loss_mask.shape[1], device=loss_mask.device)
    chosen = torch.zeros_like(loss_mask).scatter(1, order, places < k[:, None])
    return chosen & loss_mask


def t_weight(sigma: Tensor, rate: Tensor) -> Tensor:
    r""":math:`\sigma' / (e^\sigma - 1)`, float32 or better; no overflow at large sigma."""
    return at_least_float32(rate) * torch.exp(-log_expm1(at_least_float32(sigma)))


def masked_sum(cost: Tensor, masking: Masking) -> Tensor:
    """Weight times the sum of `cost` ``(B, L)`` over masked residues: nats per sequence, ``(B,)``.

    Where a cost can be infinite outside the masks, it must be replaced before the gradient is asked for.
    """
    return masking.weight * torch.where(masking.masked, at_least_float32(cost), 0.0).sum(1)


def weighted_score_entropy(
    graph: Graph, log_score: Tensor, sigma: Tensor, rate: Tensor, xt: Tensor, x0: Tensor, loss_mask: Tensor
) -> Tensor:
    r"""SEDD's loss (DWDSE) for either graph: :math:`\sigma'(t) \sum_i \ell_i`, nats per sequence, ``(B,)``.

    Its mean over t uniform in [0, 1] and xt, plus `Graph.prior_kl`, bounds :math:`-\log p(x_0)`.

    Args:
        graph: of the noise.
        log_score: ``(B, L, N)``.
        sigma: ``(B,)``, at which xt was drawn, the model was asked, and the score is weighed: one and the same.
        rate: ``(B,)``, sigma'(t).
        xt: ``(B, L)``.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool, the residues that count.
    """
    entropy = graph.score_entropy(log_score, sigma, xt, x0, loss_mask)
    return (per_sequence(rate) * entropy).sum(1)


def k_bound(
    denoiser: Denoiser,
    graph: AbsorbingGraph,
    x0: Tensor,
    loss_mask: Tensor,
    generator: RandomSource,
    noise: Noise | None = None,
) -> Tensor:
    """One draw of the k form's bound of every sequence, nats, ``(B,)``; to be averaged over draws.

    Args:
        denoiser: (xt, sigma) to log p(x0 | xt).
        graph: whose mask is put.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool.
        generator: of k and of the choice.
        noise: its sigma(1) caps what the model is told.
    """
    largest = torch.inf if noise is None else noise.sigma_at_end
    masking = mask_k(graph, x0, loss_mask, draw_k(loss_mask, generator), generator, largest)
    return masked_sum(cross_entropy(denoiser(masking.xt, masking.sigma), x0), masking)


def per_residue(bound: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of all sequences of a batch, and the number of their residues: both to be added up before they are divided.

    Args:
        bound: ``(B,)``.
        loss_mask: ``(B, L)`` bool.

    Returns:
        Two 0-dim float64 tensors.
    """
    return bound.double().sum(), loss_mask.sum().double()
