"""What a masked residue costs, by how much of its sequence is masked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.nn.summed_metric import SummedMetric

MASK_RATES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
MILLION = 1_000_000


class MaskRateCrossEntropy(SummedMetric):
    """Mean cross entropy of masked residues (nats), in bins of the share of masks in their sequence.

    A training loss mixes mask rates, and a curriculum changes the mixture; these do not. Bin i has the rates above edge
    i - 1 (0 for the first) up to edge i.

    Args:
        edges: the upper end of each bin, ascending, of which the last is 1.

    Raises:
        ConfigurationError: edges that are not.

    Example:
        >>> import torch
        >>> cost = MaskRateCrossEntropy(edges=(0.5, 1.0))
        >>> cost.update(torch.tensor([3.0, 8.0]), torch.tensor([1, 4]), torch.tensor([0.25, 1.0]))
        >>> cost.compute().tolist()
        [3.0, 2.0]
    """

    higher_is_better = False

    upper: Tensor
    nats: Tensor
    masked: Tensor

    def __init__(self, edges: Sequence[float] = MASK_RATES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.edges = [float(edge) for edge in edges]
        rising = all(a < b for a, b in zip([0.0, *self.edges], self.edges, strict=False))
        if not self.edges or not rising or self.edges[-1] != 1.0:
            raise bad_argument(type(self).__name__, "edges", list(edges), "rising numbers above 0, the last of them 1")
        # whole millionths: half precision leaves them alone, and a share k / n that is an edge is one
        upper = torch.tensor([round(edge * MILLION) for edge in self.edges])
        self.register_buffer("upper", upper, persistent=False)
        self.add_sum("nats", len(self.edges))
        self.add_count("masked", len(self.edges))

    def update(self, nats: Tensor, masked: Tensor, rate: Tensor) -> None:
        """Adds what the masked residues of some sequences cost together.

        Args:
            nats: ``(B,)``, their summed cross entropy.
            masked: ``(B,)``, how many they are.
            rate: ``(B,)``, their share of the residues that count.
        """
        place = torch.bucketize((rate.double().clamp(max=1.0) * MILLION).round().long(), self.upper)
        self.nats.index_add_(0, place, nats.detach().double())
        self.masked.index_add_(0, place, masked.long())

    def compute(self) -> Tensor:
        """``(bins,)`` float64; NaN where a bin has no residue."""
        return torch.where(self.masked > 0, self.nats / self.masked, math.nan)
