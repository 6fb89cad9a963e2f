"""How often residues occur, and what a model of nothing but their frequencies would cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.nn.summed_metric import SummedMetric


class ResidueCounts(SummedMetric):
    """Counts of the 20 residues; `cross_entropy` is the baseline that no model of sequences may be above.

    Example:
        >>> import torch
        >>> counts = ResidueCounts()
        >>> counts.update(torch.tensor([[0, 0, 5, 21]]), torch.tensor([[True, True, True, False]]))
        >>> counts.compute()[:6].tolist()
        [2, 0, 0, 0, 0, 1]
    """

    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_count("counts", N_RESIDUES)

    def update(self, tokens: Tensor, loss_mask: Tensor) -> None:
        """Adds the residues ``(B, L)`` of `loss_mask` ``(B, L)``."""
        # without picking the residues out, which a GPU would have to wait for
        inside = tokens.clamp(0, N_RESIDUES - 1).flatten()
        self.counts.index_add_(0, inside, loss_mask.flatten().long())

    def compute(self) -> Tensor:
        """``(20,)`` int64."""
        return self.counts

    def cross_entropy(self, frequencies: Tensor) -> Tensor:
        """Nats per residue of guessing by `frequencies` ``(20,)``: ``()`` float64; infinity where one that occurs is 0.

        With the frequencies of other data, those of training, it is what a unigram model scores.
        """
        # what compute gives is of all ranks
        counts = self.compute()
        share = counts.double() / counts.sum()
        return -torch.where(share > 0, share * frequencies.double().log(), 0.0).sum()
