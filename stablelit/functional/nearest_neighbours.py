r"""Weighted nearest neighbours: what an embedding is worth, without training anything.

The k most similar rows of a bank vote for their classes. With z of length 1,

.. math:: \mathrm{vote}_c(q) = \sum_{i \in N_k(q),\, y_i = c} \exp(z_q \cdot z_i / T) .

Source: Z. Wu et al., CVPR 2018 (instance discrimination), section 3.4, with its k = 200 and T = 0.07; k = 20 is usual
for small sets.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number

_OWNER = "weighted_vote"
_EPS = 1e-6


def weighted_vote(
    query: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
    chunk_size: int = 1024,
) -> Tensor:
    """The class that the k nearest rows of the bank vote for.

    Nothing waits for the device: classes may be any numbers, and nobody asks how many there are.

    Args:
        query: ``(n, d)``.
        bank: ``(m, d)``; normalised here, in float32.
        bank_labels: ``(m,)``; rows below 0 are unknown and have no vote.
        k: neighbours; all of a smaller bank.
        temperature: T.
        leave_one_out: the queries are the bank, and none votes for itself.
        chunk_size: queries at a time: memory is ``chunk_size * m``.

    Returns:
        ``(n,)`` int64; -1 where nobody voted.

    Raises:
        ConfigurationError: an argument outside its range, an empty bank, shapes that do not fit.

    Example:
        >>> weighted_vote(torch.tensor([[1.0, 0.1]]), torch.eye(2), torch.tensor([7, 9]), k=1).tolist()
        [7]
    """
    k = check_count(_OWNER, "k", k, 1)
    temperature = check_number(_OWNER, "temperature", temperature, above=0.0)
    chunk_size = check_count(_OWNER, "chunk_size", chunk_size, 1)
    if query.dim() != 2 or bank.dim() != 2 or query.shape[1] != bank.shape[1]:
        shapes = f"{tuple(query.shape)} and {tuple(bank.shape)}"
        raise bad_argument(_OWNER, "query and bank", shapes, "shapes (n, d) and (m, d)")
    if len(bank) != len(bank_labels):
        raise bad_argument(_OWNER, "bank_labels", tuple(bank_labels.shape), f"one label for each of {len(bank)} rows")
    if len(bank) < 1 + leave_one_out:
        raise bad_argument(_OWNER, "bank", f"{len(bank)} rows", f"at least {1 + leave_one_out}")
    if leave_one_out and len(query) != len(bank):
        raise bad_argument(_OWNER, "query", f"{len(query)} rows", f"the bank's {len(bank)} rows with leave_one_out")
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        rows = normalize(bank.float(), dim=1, eps=_EPS)
        silent = bank_labels < 0
        k = min(k, len(bank) - leave_one_out)
        voted = []
        for begin in range(0, len(query), chunk_size):
            part = normalize(query[begin : begin + chunk_size].float(), dim=1, eps=_EPS)
            cosine = (part @ rows.T).masked_fill(silent, -torch.inf)
            if leave_one_out:
                cosine.diagonal(begin).fill_(-torch.inf)
            voted.append(_elected(cosine, bank_labels, k, temperature))
        return torch.cat(voted) if voted else bank_labels.new_zeros(0)


def leave_one_out_top1(h: Tensor, labels: Tensor, k: int = 20, temperature: float = 0.07) -> Tensor:
    """The share of rows of known label for which the k nearest others vote right; 0-dim, float64.

    Arguments as of :func:`weighted_vote`; NaN where no label is known. :func:`chance_of_vote` is what to compare with.
    """
    known = labels >= 0
    voted = weighted_vote(h, h, labels, k, temperature, leave_one_out=True)
    return ((voted == labels) & known).sum().double() / known.sum()


def chance_of_vote(query_labels: Tensor, bank_labels: Tensor, leave_one_out: bool = False) -> Tensor:
    r"""How often a random row of the bank has the query's class: what a single random neighbour would score.

    ``sum_c p_query(c) p_bank(c)``, which is one of C for C classes of one size.

    Args:
        query_labels: ``(n,)``; below 0 is unknown and does not count.
        bank_labels: ``(m,)``; likewise.
        leave_one_out: the queries are the bank.

    Returns:
        0-dim, float64; NaN where nothing is known. It waits for the device.
    """
    known, voters = query_labels[query_labels >= 0], bank_labels[bank_labels >= 0]
    classes, place = torch.unique(torch.cat([known, voters]), return_inverse=True)
    of_query = torch.bincount(place[: len(known)], minlength=len(classes)).double()
    of_bank = torch.bincount(place[len(known) :], minlength=len(classes)).double()
    if leave_one_out:
        return (of_query * (of_query - 1)).sum() / (len(known) * (len(known) - 1) or torch.nan)
    return (of_query * of_bank).sum() / (len(known) * len(voters) or torch.nan)


def _elected(cosine: Tensor, labels: Tensor, k: int, temperature: float) -> Tensor:
    nearest, where = cosine.topk(k, dim=1)
    classes = labels[where]
    # the nearest has weight 1: exp(1/T) alone would overflow at a small T; no neighbour at all is no vote
    weight = ((nearest - nearest[:, :1]) / temperature).exp().nan_to_num(0.0)
    same = classes[:, :, None] == classes[:, None, :]
    best = (same * weight[:, None, :]).sum(2).argmax(1, keepdim=True)
    winner = classes.gather(1, best).squeeze(1)
    return torch.where(nearest[:, 0] == -torch.inf, -1, winner)
