"""How cyclic weights are, as a metric."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError, bad_argument
from stablelit.families.causal.acyclicity import Acyclicity, acyclicity, inside_domain
from stablelit.functional.edge_thresholds import square_matrices
from stablelit.functional.score_groups import Array

MEASURED = ("log_det", "exponential", "polynomial")


class DagPenalty(Metric):
    r"""h of edge weights, 0 exactly where they have no directed cycle, the mean over graphs.

    The diagonal is not looked at. Of `log_det` at s = 1 it is infinite where the spectral radius of
    :math:`W \circ W` is 1 or more: there the formula has no meaning.

    Args:
        kind: `log_det`, `exponential` or `polynomial`; the formulas are in `stablelit.families.causal.acyclicity`.

    Raises:
        ConfigurationError: another kind.

    Example:
        >>> import torch
        >>> float(DagPenalty("exponential")(torch.tensor([[0.0, 0.9], [0.0, 0.0]])))
        0.0
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False

    graphs: Tensor

    def __init__(self, kind: Acyclicity = "log_det", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in MEASURED:
            raise bad_argument("DagPenalty", "kind", kind, ", ".join(MEASURED))
        self.kind: Acyclicity = kind
        # a MetricCollection joins metrics whose states have the same names and, at first, the same values
        self._total = f"{kind}_total"
        self.add_state(self._total, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("graphs", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, weights: Tensor | Array) -> None:
        """Adds weights, ``(d, d)`` or ``(B, d, d)``.

        Raises:
            DataError: not square, fewer than two nodes, NaN off the diagonal.
        """
        for matrix in torch.from_numpy(square_matrices(weights, "DagPenalty: weights").copy()):
            matrix.fill_diagonal_(0.0)
            getattr(self, self._total).add_(_penalty(matrix, self.kind))
            self.graphs += 1

    def compute(self) -> Tensor:
        """The mean, 0-dim float64.

        Raises:
            DataError: no graph was given.
        """
        if self.graphs == 0:
            raise DataError("DagPenalty: no graph was given. Call update(weights) first.")
        total: Tensor = getattr(self, self._total)
        return total / self.graphs


def _penalty(weights: Tensor, kind: Acyclicity) -> float:
    if kind == "log_det" and not inside_domain(weights, 1.0):
        return math.inf
    value = float(acyclicity(kind, weights))
    # infinite weights, or an exponential beyond the largest number
    return math.inf if math.isnan(value) else value
