"""Bounds of single sequences: what validation, tests and predictions score by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.families.proteins.diffusion import (
    AbsorbingGraph,
    Noise,
    SampleKeys,
    UniformGraph,
    cross_entropy,
    denoising_cost,
    k_at,
    log_probabilities,
    mask_k,
    masked_sum,
    weighted_score_entropy,
)
from stablelit.families.proteins.objective import Head, unnormalised_log_probabilities

GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class SequenceBound:
    """One draw of the bound of each sequence of a batch.

    Args:
        nats: ``(B,)``, an unbiased estimate of the bound.
        masked_nats: ``(B,)``, the cross entropy of masked residues together; None for the uniform graph.
        masked: ``(B,)``, how many those were; likewise.
        excess: ``(B,)`` nats, what the scores as they are, not normalised, would cost on top; likewise.
    """

    nats: Tensor
    masked_nats: Tensor | None = None
    masked: Tensor | None = None
    excess: Tensor | None = None


def absorbing_bound(
    head: Head,
    graph: AbsorbingGraph,
    noise: Noise,
    x0: Tensor,
    loss_mask: Tensor,
    ids: Tensor,
    seed: int,
    draw: int,
    scores: bool,
) -> SequenceBound:
    r"""The k form (see `diffusion.bounds`), which has the least noise, of normalised scores, by which one samples.

    Draw r of a sequence masks :math:`k = 1 + \lfloor n\,(u + r \varphi \bmod 1) \rfloor` of its n residues, with u of
    its own and the golden ratio's :math:`\varphi = 0.618`: every draw by itself is uniform, and a few together cover
    small and large k evenly, which is what most of the estimate's noise comes from.

    Args:
        head: the network.
        graph: whose mask is put.
        noise: its sigma(1) caps what the network is told.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool.
        ids: ``(B,)``, which sample each is.
        seed: chooses k and masks, with the id.
        draw: which, 0 or more.
        scores: whether the network's output is log scores less what `log_score_from` subtracts, which need not add up.
    """
    u = (SampleKeys(ids, seed).uniform((len(ids),)) + draw * GOLDEN) % 1.0
    masking = mask_k(graph, x0, loss_mask, k_at(u, loss_mask), SampleKeys(ids, seed + 1 + draw), noise.sigma_at_end)
    h = head(masking.xt, masking.sigma)
    cost = cross_entropy(log_probabilities(h), x0)
    nats, excess = masked_sum(cost, masking), None
    if scores:
        excess = masked_sum(denoising_cost(unnormalised_log_probabilities(h), x0, masking.masked), masking) - nats
    masked_nats = torch.where(masking.masked, cost, 0.0).sum(1)
    return SequenceBound(nats, masked_nats, masking.masked.sum(1), excess)


def uniform_bound(
    head: Head, graph: UniformGraph, noise: Noise, x0: Tensor, loss_mask: Tensor, keys: SampleKeys, t_min: float
) -> SequenceBound:
    """The t form, t from `t_min` on, with what is left out at the far end (`Graph.prior_kl`).

    What the noise before `t_min` would add is left out: about 1e-3 nats per residue with sigma(t_min) = 1e-4.

    Args:
        head: the network; its output is the log scores.
        graph: of the noise.
        noise: its schedule.
        x0: ``(B, L)``.
        loss_mask: ``(B, L)`` bool.
        keys: from which t and the noise come.
        t_min: the earliest time.
    """
    t = t_min + (1 - t_min) * keys.uniform((len(x0),)).float()
    sigma, rate = noise.sigma(t), noise.rate(t)
    xt = graph.corrupt(x0, sigma, keys, loss_mask)
    nats = weighted_score_entropy(graph, head(xt, sigma), sigma, rate, xt, x0, loss_mask)
    prior = graph.prior_kl(noise.sigma(torch.ones((), device=x0.device)))
    return SequenceBound((1 - t_min) * nats + prior * loss_mask.sum(1))
