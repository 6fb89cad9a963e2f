"""Every node is a weighted sum of others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.families.causal.mechanisms import Mechanism, Prediction
from stablelit.families.causal.structure import WeightedStructure


class LinearMechanism(Mechanism):
    r"""Linear: :math:`\hat x_t = b + x_t W + \sum_l x_{t-l} A_l`.

    Args:
        nodes: d.
        lags: p.
        allowed: (d, d) bool, edges that may be.
        shared_scale: one scale of the noise for all columns.
        environments: not used.
    """

    def __init__(
        self,
        nodes: int,
        lags: int = 0,
        allowed: Tensor | None = None,
        shared_scale: bool = False,
        environments: int = 1,
    ) -> None:
        super().__init__()
        del environments
        self.structure = WeightedStructure(nodes, lags, allowed)
        self.bias = nn.Parameter(torch.zeros(nodes))
        self.log_scale = nn.Parameter(torch.zeros(() if shared_scale else (nodes,)))

    @property
    def is_linear(self) -> bool:
        """Yes."""
        return True

    def forward(self, rows: Tensor, environment: Tensor, graph: Tensor | None = None) -> Prediction:
        """As `Mechanism` says."""
        del environment
        weights = self.edge_weights() if graph is None else self.edge_weights() * graph
        mean = rows[:, 0] @ weights.to(rows.dtype) + self.bias
        if self.structure.lag_weights is not None:
            # one product for all lags
            mean = mean + rows[:, 1:].flatten(1) @ self.structure.lag_weights.to(rows.dtype).flatten(0, 1)
        return Prediction(mean, self.log_scale)

    def lag_sizes(self) -> Tensor | None:
        """The weights of earlier rows."""
        return self.structure.lag_weights
