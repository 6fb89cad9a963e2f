"""How far an estimated graph follows the scale of the data, as a metric."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError
from stablelit.families.causal.sortability import order_agreement
from stablelit.functional.edge_thresholds import checked_graphs
from stablelit.functional.score_groups import Array


class Varsortability(Metric):
    """The share of directed paths of a graph along which the variance rises, the mean over graphs that have edges.

    Of an estimate on raw data, near 1 says that the learner may have sorted columns by their units: learn once more on
    standardised columns. After standardising it is 1/2 whatever the graph is. The formula is in
    `stablelit.families.causal.sortability`; `without_edges` counts the graphs that have none.

    Source: Reisach, Seiler, Weichwald 2021 (arXiv:2102.13647), equation 3.

    Example:
        >>> import torch
        >>> float(Varsortability()(torch.tensor([1.0, 4.0]), torch.tensor([[0, 1], [0, 0]])))
        1.0
    """

    is_differentiable = False
    full_state_update = False

    total_share: Tensor
    graphs: Tensor
    without_edges: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total_share", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("graphs", "without_edges"):
            self.add_state(name, default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scale: Tensor | Array, adjacency: Tensor | Array) -> None:
        """Adds graphs over the same data.

        Args:
            scale: ``(d,)`` variances of the columns, or ``(d, d)`` their covariance.
            adjacency: ``(d, d)`` or ``(B, d, d)``, bool or 0 and 1.

        Raises:
            DataError: a variance that is not a positive number, graphs of other shapes, NaN, self-loops.
        """
        graphs = checked_graphs(adjacency, "Varsortability: edges")
        variances = torch.as_tensor(scale).detach().cpu().double().numpy()
        variances = np.diag(variances) if variances.ndim == 2 else variances
        if variances.shape != graphs.shape[1:2]:
            raise DataError(
                f"Varsortability: a scale of shape {tuple(torch.as_tensor(scale).shape)} for graphs of "
                f"{graphs.shape[1]} nodes. Allowed: their variances (d,) or their covariance (d, d)."
            )
        fine = np.isfinite(variances) & (variances > 0)
        if not fine.all():
            column = int(np.argmin(fine))
            raise DataError(
                f"Varsortability: the variance of column {column} is {variances[column]:g}; allowed: above 0, finite."
            )
        shares = [order_agreement(np.log(variances), graph) for graph in graphs]
        defined = [share for share in shares if not math.isnan(share)]
        self.total_share += sum(defined)
        self.graphs += len(defined)
        self.without_edges += len(shares) - len(defined)

    def compute(self) -> Tensor:
        """The mean, 0-dim float64; NaN where no graph has an edge.

        Raises:
            DataError: no graph was given.
        """
        if self.graphs + self.without_edges == 0:
            raise DataError("Varsortability: no graph was given. Call update(variances, adjacency) first.")
        return self.total_share / self.graphs
