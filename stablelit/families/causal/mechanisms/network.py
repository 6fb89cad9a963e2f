"""Every node is a small network of others, with curves and interactions that a sum does not have."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.families.causal.mechanisms import Mechanism, Prediction
from stablelit.families.causal.structure import GroupedStructure
from stablelit.functional.schedules import check_count


class NetworkMechanism(Mechanism):
    r"""One network a node, all at once: :math:`\hat x_j = v_j^\top \tanh(U_j^\top x + c_j) + b_j`, v of length 1.

    Zheng et al. 2020 (arXiv 1909.13189), section 4.2, but for the length of v: what it may grow by, the norms of U that
    are the edges shrink by, and a sparse graph is then one of large v. In the straight part of tanh the norm of an edge
    is its slope, in standard deviations.

    Args:
        nodes: d.
        lags: p.
        allowed: (d, d) bool, edges that may be.
        shared_scale: one scale of the noise for all columns.
        environments: not used.
        hidden: units of each network.

    Raises:
        ConfigurationError: `hidden` below 1.
    """

    def __init__(
        self,
        nodes: int,
        lags: int = 0,
        allowed: Tensor | None = None,
        shared_scale: bool = False,
        environments: int = 1,
        hidden: int = 10,
    ) -> None:
        super().__init__()
        del environments
        check_count("StructureLearner", "mechanism.hidden", hidden, 1)
        self.structure = GroupedStructure(nodes, hidden, lags, allowed)
        bound = 1.0 / math.sqrt(hidden)
        self.first_bias = nn.Parameter(torch.empty(nodes, hidden).uniform_(-bound, bound))
        self.second = nn.Parameter(torch.empty(nodes, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(nodes))
        self.log_scale = nn.Parameter(torch.zeros(() if shared_scale else (nodes,)))

    def forward(self, rows: Tensor, environment: Tensor, graph: Tensor | None = None) -> Prediction:
        """As `Mechanism` says."""
        del environment
        structure = self.structure
        allowed = structure.allowed if graph is None else structure.allowed & graph
        first = (structure.weights * allowed.unsqueeze(-1)).to(rows.dtype)
        # (B, d) by (d, d m): the first layers of all networks in one product
        hidden = rows[:, 0] @ first.flatten(1)
        if structure.lag_weights is not None:
            hidden = hidden + rows[:, 1:].flatten(1) @ structure.lag_weights.to(rows.dtype).flatten(0, 1).flatten(1)
        units = torch.tanh(hidden.unflatten(1, self.first_bias.shape) + self.first_bias)
        readout = functional.normalize(self.second, dim=-1)
        return Prediction((units * readout).sum(-1) + self.bias, self.log_scale)

    def lag_sizes(self) -> Tensor | None:
        """Norms of what leads from earlier rows."""
        return None if self.structure.lag_weights is None else self.structure.lag_norms()
