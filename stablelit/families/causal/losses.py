r"""What a graph and its latent codes cost beside the likelihood.

Sparsity is :math:`\|W\|_1`, a sum over edges and not a mean over :math:`d^2` entries, so that a weight of it means the
same at any d. Disentanglement is that of *pairs* of codes, by their cross block alone:

.. math:: \frac{1}{k_a k_b} \| \operatorname{Corr}(z_a, z_b) \|_F^2.

The post-mortem's took the mean absolute correlation of the whole matrix of both codes, diagonal included, which cannot
fall below :math:`1/2k` and asks each code to be uncorrelated within itself; it is `correlation_penalty`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from stablelit.functional.rank_gather import mean_over_ranks, rank_and_world, sum_over_ranks

_TINY = 1e-8


def l1(weights: Tensor, free: Tensor | None = None) -> Tensor:
    """Sum of absolute values, without those that cost nothing.

    Args:
        weights: any shape.
        free: the same shape, bool: entries that are required anyway.
    """
    sizes = weights.abs()
    return sizes.sum() if free is None else torch.where(free, torch.zeros_like(sizes), sizes).sum()


def cross_correlation(codes: Sequence[Tensor]) -> Tensor:
    """Sum over pairs of codes of the mean squared correlation between their dimensions; 0 where they are uncorrelated.

    A dimension without variance has no correlation with anything.

    Args:
        codes: (B, k) each; their k may differ.
    """
    share, total = _share_of_rows(codes[0]), codes[0].new_zeros(())
    for a, b in combinations([_standardised(code, share) for code in codes], 2):
        total = total + (_mean_product(a, b, share) ** 2).mean()
    return total


def correlation_penalty(codes: Sequence[Tensor]) -> Tensor:
    """The post-mortem's: sum over pairs of the mean absolute entry of the correlation matrix of both codes together."""
    share, total = _share_of_rows(codes[0]), codes[0].new_zeros(())
    for a, b in combinations([_standardised(code, share) for code in codes], 2):
        both = torch.cat([a, b], dim=1)
        total = total + _mean_product(both, both, share).abs().mean()
    return total


def _standardised(code: Tensor, share: Tensor | float) -> Tensor:
    centred = code - _mean_over_rows(code, share)
    return centred / (_mean_over_rows(centred.pow(2), share) + _TINY).sqrt()


# over the rows of all ranks: a correlation of few rows is not that of many, and no mean over ranks makes it so
def _mean_over_rows(rows: Tensor, share: Tensor | float) -> Tensor:
    return sum_over_ranks(rows.mean(dim=0) * share)


def _mean_product(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    return sum_over_ranks(a.T @ b / len(a) * share)


# of this rank among all
def _share_of_rows(rows: Tensor) -> Tensor | float:
    world = rank_and_world()[1]
    if world == 1:
        return 1.0
    own = torch.tensor(float(len(rows)), device=rows.device)
    return (own / mean_over_ranks(own) / world).to(rows.dtype)
