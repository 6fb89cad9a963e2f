"""EdgeConv over a fixed number of neighbours, by gathers and dense products, or by `torch_geometric`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.errors import bad_argument, did_you_mean

BACKENDS = ("dense", "pyg")


def layer_stack(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from size to size, a LeakyReLU after each."""
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*[layer for a, b in pairs for layer in (nn.Linear(a, b), nn.LeakyReLU())])


class EdgeConvolution(nn.Module):
    """``x'_i = sum_j h([x_i, x_j - x_i])`` over the neighbours j of i, with h a stack of linear layers and LeakyReLUs.

    h's first layer is linear in ``(x_i, x_j)``, ``W [x_i, x_j - x_i] = (W_1 - W_2) x_i + W_2 x_j``: the dense form
    computes both parts once a pulse rather than once an edge.

    Source: Wang et al. 2019 (arXiv:1801.07829) eq. 8, here with a sum, as in Abbasi et al. 2022 (arXiv:2209.03042).

    Args:
        n_features: of x.
        sizes: of h's layers; the last is that of x'.
        backend: "dense", or "pyg" for `torch_geometric.nn.EdgeConv`: the same parameters and, to rounding, the same
            numbers.

    Raises:
        ConfigurationError: no such backend.
    """

    def __init__(self, n_features: int, sizes: Sequence[int], backend: str = "dense") -> None:
        super().__init__()
        if backend not in BACKENDS:
            allowed = ", ".join(BACKENDS)
            raise bad_argument(type(self).__name__, "backend", backend, allowed, did_you_mean(str(backend), BACKENDS))
        self.layers = layer_stack([2 * n_features, *sizes])
        # a list hides the other's module, whose parameters are these: a state_dict has them once
        self._sparse: list[Any] = []
        if backend == "pyg":
            from torch_geometric.nn import EdgeConv

            self._sparse.append(EdgeConv(self.layers, aggr="add"))

    def forward(self, x: Tensor, neighbour: Tensor, valid: Tensor) -> Tensor:
        """``(N, F')`` from x ``(N, F)``, rows of neighbours ``(N, k)`` and which of them are there ``(N, k)``."""
        if self._sparse:
            return self._by_messages(x, neighbour, valid)
        first = self.layers[0]
        of_itself, of_other = first.weight.chunk(2, dim=1)
        itself = functional.linear(x, of_itself - of_other, first.bias)
        other = functional.linear(x, of_other).index_select(0, neighbour.flatten())
        hidden = self.layers[1:](itself[:, None] + other.unflatten(0, neighbour.shape))
        return (hidden * valid[..., None]).sum(dim=1)

    def _by_messages(self, x: Tensor, neighbour: Tensor, valid: Tensor) -> Tensor:
        # a row too many takes the messages of neighbours that are not there: choosing edges would wait for the device
        n = len(x)
        own = torch.arange(n, device=x.device)[:, None]
        target = torch.where(valid, own, n)
        edges = torch.stack([neighbour.flatten(), target.flatten()])
        answer: Tensor = self._sparse[0](torch.cat([x, x.new_zeros(1, x.shape[1])]), edges)[:n]
        return answer
