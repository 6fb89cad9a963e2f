"""The graph that a gradient can move: weights of edges, with those that prior knowledge forbids held at zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightedStructure(nn.Module):
    """W of (d, d) and, for lags, A of (p, d, d).

    ``W[i, j] != 0`` is the edge i -> j, and ``A[l - 1, i, j] != 0`` that from i at t - l to j at t. All begin at zero:
    where the data do not move a weight, there is no edge. In float64, whatever precision the rest of the model has.

    Args:
        nodes: d.
        lags: p.
        allowed: (d, d) bool, edges that may be; the diagonal never is. None is all.
    """

    allowed: Tensor

    def __init__(self, nodes: int, lags: int = 0, allowed: Tensor | None = None) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(nodes, nodes, dtype=torch.float64))
        self.lag_weights = nn.Parameter(torch.zeros(lags, nodes, nodes, dtype=torch.float64)) if lags else None
        self.register_buffer("allowed", allowed_edges(nodes, allowed), persistent=False)

    def edge_weights(self) -> Tensor:
        """W, (d, d)."""
        return self.weights * self.allowed


class GroupedStructure(nn.Module):
    r"""First layers of one network a node; an edge is the norm of what leads from one node into another's network.

    :math:`W_{ij} = \sqrt{\sum_{h} U_{ijh}^2}` with U of (d, d, m), i the input, j the node whose network it is and h
    its hidden unit: NOTEARS-MLP (Zheng et al. 2020, arXiv 1909.13189).

    Args:
        nodes: d.
        hidden: m.
        lags: p.
        allowed: as in `WeightedStructure`.
    """

    allowed: Tensor

    def __init__(self, nodes: int, hidden: int, lags: int = 0, allowed: Tensor | None = None) -> None:
        super().__init__()
        # at exactly zero the norm has no gradient, and every hidden unit of a node would learn the same
        bound = 0.1 / nodes**0.5
        self.weights = nn.Parameter(torch.empty(nodes, nodes, hidden, dtype=torch.float64).uniform_(-bound, bound))
        self.lag_weights = (
            nn.Parameter(torch.empty(lags, nodes, nodes, hidden, dtype=torch.float64).uniform_(-bound, bound))
            if lags
            else None
        )
        self.register_buffer("allowed", allowed_edges(nodes, allowed), persistent=False)

    def edge_weights(self) -> Tensor:
        """W, (d, d), not negative."""
        return _norm(self.weights * self.allowed.unsqueeze(-1))

    def lag_norms(self) -> Tensor:
        """(p, d, d), not negative."""
        assert self.lag_weights is not None
        return _norm(self.lag_weights)


def _norm(weights: Tensor) -> Tensor:
    # the root has no derivative at 0, where forbidden edges and the diagonal are
    squares = weights.pow(2).sum(-1)
    return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)


def allowed_edges(nodes: int, allowed: Tensor | None) -> Tensor:
    """(d, d) bool without the diagonal."""
    off = ~torch.eye(nodes, dtype=torch.bool)
    return off if allowed is None else off & torch.as_tensor(allowed, dtype=torch.bool)
