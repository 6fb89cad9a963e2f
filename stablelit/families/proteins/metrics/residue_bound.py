"""A bound in nats per residue over a data set, with its standard error."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from stablelit.errors import DataError
from stablelit.nn.summed_metric import SummedMetric


class ResidueBound(SummedMetric):
    r"""Nats of all sequences over the residues of all sequences, ``nll``; not a mean of means.

    With :math:`x_s` nats and :math:`n_s` residues of S sequences, :math:`R = \sum x / \sum n`, and the standard error
    of a ratio of sums, both from which sequences there were and from which masks were drawn:

    .. math:: \mathrm{se}(R) = \frac{1}{\sum n} \sqrt{\frac{S}{S - 1} \sum_s (x_s - R n_s)^2}

    `compute` has ``nll`` and ``nll_se`` (nats per residue), ``perplexity`` = :math:`e^R` and ``bits_per_residue`` =
    :math:`R / \ln 2`; NaN without residues, and ``nll_se`` infinite with one sequence.

    Source of the error: Cochran 1977, Sampling Techniques, section 2.11.

    Example:
        >>> import torch
        >>> bound = ResidueBound()
        >>> bound.update(torch.tensor([6.0, 2.0]), torch.tensor([3, 1]))
        >>> float(bound.compute()["nll"])
        2.0
    """

    higher_is_better = False

    nats: Tensor
    nats_squared: Tensor
    nats_residues: Tensor
    residues_squared: Tensor
    residues: Tensor
    sequences: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("nats", "nats_squared", "nats_residues", "residues_squared"):
            self.add_sum(name)
        self.add_count("residues")
        self.add_count("sequences")

    def update(self, nats: Tensor, residues: Tensor) -> None:
        """Adds the bounds of some sequences, ``(B,)``, and how many residues each counts, ``(B,)``.

        A sequence without residues that count (all of them unknown) is left out.

        Raises:
            DataError: other shapes.
        """
        if nats.shape != residues.shape or nats.dim() != 1:
            raise DataError(
                f"{type(self).__name__}: {tuple(nats.shape)} nats and {tuple(residues.shape)} residues. "
                f"Allowed: (B,) both."
            )
        x, n = nats.detach().double(), residues.double()
        self.nats += x.sum()
        self.nats_squared += x.square().sum()
        self.nats_residues += (x * n).sum()
        self.residues_squared += n.square().sum()
        self.residues += residues.sum()
        self.sequences += (residues > 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """The four, each ``()`` float64."""
        ratio = self.nats / self.residues
        spread = self.nats_squared - 2 * ratio * self.nats_residues + ratio.square() * self.residues_squared
        # of equal sequences rounding may leave a negative number
        error = (spread.clamp_min(0.0) * self.sequences / (self.sequences - 1)).sqrt() / self.residues
        return {
            "nll": ratio,
            "nll_se": error.masked_fill(self.sequences < 2, math.inf),
            "perplexity": ratio.exp(),
            "bits_per_residue": ratio / math.log(2.0),
        }
