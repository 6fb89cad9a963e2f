"""Nearest neighbours as a metric: what an encoder's output is worth without training anything on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from stablelit.functional.nearest_neighbours import chance_of_vote, weighted_vote
from stablelit.functional.schedules import check_count, check_number


class WeightedKNN(Metric):
    """Top-1 accuracy of the weighted vote of the k nearest rows (:func:`stablelit.functional.nearest_neighbours`).

    With a bank (training sketches) its rows vote; without one, as with classes that nobody has trained on, the queries
    vote for each other, none for itself. Ranks gather bank and queries.

    Args:
        k: neighbours; all of a smaller bank.
        temperature: of the weights ``exp(cos / T)``.
        chunk_size: queries at a time.

    Raises:
        ConfigurationError: a number outside its range.
    """

    bank: list[Tensor]
    bank_labels: list[Tensor]
    query: list[Tensor]
    query_labels: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, k: int = 20, temperature: float = 0.07, chunk_size: int = 1024) -> None:
        super().__init__()
        owner = type(self).__name__
        self.k = check_count(owner, "k", k, 1)
        self.temperature = check_number(owner, "temperature", temperature, above=0.0)
        self.chunk_size = check_count(owner, "chunk_size", chunk_size, 1)
        for name in ("bank", "bank_labels", "query", "query_labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, h: Tensor, label: Tensor, bank: bool = False) -> None:
        """Adds rows.

        Args:
            h: ``(n, d)``, of any length.
            label: ``(n,)``; below 0 is unknown, and counts nowhere.
            bank: they vote, and are not asked.
        """
        rows, labels = (self.bank, self.bank_labels) if bank else (self.query, self.query_labels)
        rows.append(h.detach().float())
        labels.append(label.detach())

    def compute(self) -> dict[str, Tensor]:
        """``top1``, and ``chance``, the score of one random row (1/C of C classes of one size); NaN without queries."""
        nan = torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        if not len(self.query):
            return {"top1": nan, "chance": nan}
        query, label = dim_zero_cat(self.query), dim_zero_cat(self.query_labels)
        alone = not len(self.bank)
        bank, bank_labels = (query, label) if alone else (dim_zero_cat(self.bank), dim_zero_cat(self.bank_labels))
        if len(bank) < 1 + alone:
            return {"top1": nan, "chance": nan}
        voted = weighted_vote(query, bank, bank_labels, self.k, self.temperature, alone, self.chunk_size)
        known = label >= 0
        return {
            "top1": ((voted == label) & known).sum().double() / known.sum(),
            "chance": chance_of_vote(label, bank_labels, leave_one_out=alone),
        }
