"""Losses between predicted particle slots and the particles of a jet. Pure functions, one number a jet, no reduction.

Notation: slots p_j, particles x_i, n of them there; d_ij^2 = |p_j - x_i|^2 summed over the features f = 1 ... F. All
but `slot_nll` divide by the number of features and particles, so that a jet of 30 particles weighs what one of 3 does
(and so they are no likelihoods).

The predicted slots that take part are the first n, as many as the jet has particles; the number itself is another term.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.errors import missing_extra

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def first_slots(mask: Tensor) -> Tensor:
    """The mask ``(B, N)`` of the first n slots, n being how many particles of the jet are there."""
    return torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)


def hardest_first(x: Tensor, mask: Tensor) -> Tensor:
    """The particles ordered by falling first feature (ln pT or pT), absent ones last and zero, ``(B, N, F)``."""
    order = x[..., 0].masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ordered = x.gather(1, order[..., None].expand_as(x))
    return ordered.masked_fill(~first_slots(mask)[..., None], 0.0)


def slot_mse(slots: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """``sum_i |p_i - x_(i)|^2 / (n F)``, x_(i) being the i-th hardest particle.

    Args:
        slots: ``(B, N, F)``.
        x: ``(B, N, F)`` particles in any order.
        mask: ``(B, N)`` bool: which are there; the others do not matter.

    Returns:
        ``(B,)``; zero for a jet without particles.
    """
    apart = (slots - hardest_first(x, mask)).square().sum(dim=-1)
    return _per_particle(apart.masked_fill(~first_slots(mask), 0.0).sum(dim=1), mask, x.shape[-1])


def chamfer(slots: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """``(sum_i min_j d_ij^2 + sum_j min_i d_ij^2) / (n F)``: each finds its nearest; partners may be shared.

    Shapes as in `slot_mse`. It does not see how many particles sit in one place.
    """
    distance = _squared_distances(slots, x)  # (B, j, i)
    # +inf, not a large number: a particle that is absent is nobody's nearest
    absent = ~(first_slots(mask)[:, :, None] & mask[:, None, :])
    distance = distance.masked_fill(absent, torch.inf)
    to_slot = distance.amin(dim=1).masked_fill(~mask, 0.0).sum(dim=1)
    to_particle = distance.amin(dim=2).masked_fill(~first_slots(mask), 0.0).sum(dim=1)
    return _per_particle(to_slot + to_particle, mask, x.shape[-1])


def hungarian(slots: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """``min over one-to-one assignments a of sum_j d_{a(j) j}^2 / (n F)``.

    The assignment is found on the CPU, jet by jet, and is a constant to the gradient (which is exact wherever the best
    assignment is unique). It brings the values to the CPU at every call. Shapes as in `slot_mse`.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    partner = assignment(slots, x, mask)
    apart = (slots - x.gather(1, partner[..., None].expand_as(x))).square().sum(dim=-1)
    return _per_particle(apart.masked_fill(~first_slots(mask), 0.0).sum(dim=1), mask, x.shape[-1])


@torch.no_grad()
def assignment(slots: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The index ``(B, N)`` of the particle that each of the first n slots is assigned to; 0 for the other slots.

    Source: Kuhn 1955, by `scipy.optimize.linear_sum_assignment`.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise missing_extra("scipy", "match", "The loss 'hungarian'") from error
    cost = _squared_distances(slots.float(), x.float()).cpu().numpy()
    there = mask.cpu()
    partner = torch.zeros(mask.shape, dtype=torch.long)
    for jet in range(len(cost)):
        present = there[jet].nonzero().squeeze(1)
        n = len(present)
        _, chosen = linear_sum_assignment(cost[jet, :n][:, present.numpy()])
        partner[jet, :n] = present[torch.as_tensor(chosen)]
    return partner.to(slots.device)


def slot_nll(slots: Tensor, log_sigma: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """``ln n! - sum_i log N(x_(i); p_i, diag sigma_i^2)``, nats a jet.

    The i-th hardest particle comes from the i-th Gaussian. The density of a *set* is the sum over all orders; one of
    them bounds it from below. ``ln n!`` is the number of orders, by which a list's density is smaller than a set's:
    with it, the value is comparable with (an upper bound of) the exchangeable mixture's, whose particles have no order.

    Args:
        slots: ``(B, N, F)`` means.
        log_sigma: ``(B, N, F)``.
        x: ``(B, N, F)`` particles in any order.
        mask: ``(B, N)`` bool.

    Returns:
        ``(B,)``.
    """
    pull = (hardest_first(x, mask) - slots) * torch.exp(-log_sigma)
    per_slot = (0.5 * pull.square() + log_sigma + _HALF_LOG_TWO_PI).sum(dim=-1)
    orders = torch.lgamma(mask.sum(dim=1).to(per_slot.dtype) + 1.0)
    return per_slot.masked_fill(~first_slots(mask), 0.0).sum(dim=1) + orders


def number_of_hyperedges(n_particles: Tensor) -> Tensor:
    """``C(n, 3) + C(n, 4)``, all triplets and quadruplets: 31,465 for 30 particles."""
    n = n_particles.double()
    triplets = n * (n - 1) * (n - 2) / 6
    return triplets + triplets * (n - 3) / 4


def hyperedge_count_error(existence_logits: Tensor, mask: Tensor) -> Tensor:
    """``(C(n, 3) + C(n, 4) - sum_s [logit_s > 0])^2``: a constant that looks like a loss.

    The number of predicted hyperedges is a count of decisions, so no gradient passes it: whatever this term is worth,
    training cannot lower it. It is here because a published training had it, where it was all but 1e-7 of the loss.

    Args:
        existence_logits: ``(B, S)`` of the hyperedges that the decoder could predict.
        mask: ``(B, N)`` bool: the particles of the jet.

    Returns:
        ``(B,)``, without a gradient.
    """
    predicted = (existence_logits > 0).sum(dim=1)
    return (number_of_hyperedges(mask.sum(dim=1)) - predicted).square().to(existence_logits.dtype)


def _squared_distances(slots: Tensor, x: Tensor) -> Tensor:
    return (slots[:, :, None, :] - x[:, None, :, :]).square().sum(dim=-1)


def _per_particle(total: Tensor, mask: Tensor, n_features: int) -> Tensor:
    return total / (n_features * mask.sum(dim=1).clamp_min(1))
