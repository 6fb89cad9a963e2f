"""What generated sequences are like as a whole: frequencies, lengths, variety."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stablelit.families.proteins.alphabet import N_RESIDUES


def sample_quality(
    tokens: Tensor, lengths: Tensor, unigram: Tensor | None = None, length_counts: Mapping[int, int] | None = None
) -> dict[str, float]:
    """Numbers to read beside a bound: a likelihood alone is gamed by sequences that are all alike.

    Args:
        tokens: ``(n, L)`` residues with PAD behind them.
        lengths: ``(n,)``.
        unigram: share of each residue in training, ``(20,)``.
        length_counts: how many training sequences had each length.

    Returns:
        ``unique_share``, of sequences that occur once or are the first of their kind; ``residue_entropy`` (nats), of
        the residues in a sequence, mean over sequences; ``residue_entropy_of_all``, of all residues together; and where
        training is known ``unigram_kl`` (nats), of the residues' frequencies to those of training, and ``length_ks``,
        the largest difference of the distributions of lengths.
    """
    inside = tokens < N_RESIDUES
    counts = torch.zeros(len(tokens), N_RESIDUES, dtype=torch.float64)
    counts.scatter_add_(1, tokens.clamp(max=N_RESIDUES - 1), inside.double())
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    of_all = counts.sum(0) / counts.sum().clamp(min=1)
    found = {
        "unique_share": len(torch.unique(tokens, dim=0)) / len(tokens),
        "residue_entropy": float(torch.special.entr(share).sum(1).mean()),
        "residue_entropy_of_all": float(torch.special.entr(of_all).sum()),
    }
    if unigram is not None:
        ratio = torch.where(of_all > 0, of_all.log() - unigram.double().log(), 0.0)
        found["unigram_kl"] = float((of_all * ratio).sum())
    if length_counts:
        longest = max(int(lengths.max()), max(length_counts)) + 1
        ours = torch.bincount(lengths, minlength=longest).double()
        theirs = torch.zeros(longest, dtype=torch.float64)
        theirs[list(length_counts)] = torch.tensor(list(length_counts.values()), dtype=torch.float64)
        gap = (ours / ours.sum()).cumsum(0) - (theirs / theirs.sum()).cumsum(0)
        found["length_ks"] = float(gap.abs().max())
    return found
