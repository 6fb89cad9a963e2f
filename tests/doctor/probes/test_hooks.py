"""Hooks run inside of a training: what they cannot look at must not end it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.probes.hooks import harmless
from stablelit.doctor.probes.layers import LayerProbe
from stablelit.doctor.probes.parameters import ParameterProbe
from tests.doctor.probes.loops import loop, mlp


def test_a_hook_that_cannot_look_does_not_raise_and_changes_no_result() -> None:
    def fails(*args: object) -> Tensor:
        raise RuntimeError

    layer, inputs = nn.Linear(3, 2), torch.ones(4, 3)
    before = layer(inputs)
    layer.register_forward_hook(harmless(fails))
    layer.register_forward_hook(harmless(lambda *_: torch.zeros(4, 2)))
    assert torch.equal(layer(inputs), before)


def test_an_expert_that_gets_no_rows_is_no_fault_of_the_run() -> None:
    def routed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nobody: Tensor = net(x[:0]).sum()
        return nobody + F.cross_entropy(net(x), y)

    evidence = loop(LayerProbe(), mlp(), loss_of=routed, steps=3)
    assert evidence.layers is not None
    assert evidence.layers.looks == 3


def test_a_layer_that_is_given_a_sparse_matrix_is_looked_at_without_its_address() -> None:
    class Sparse(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(x, self.weight.detach().t()) if x.is_sparse else super().forward(x)

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.head = Sparse(16, 16), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.aside(torch.eye(16).to_sparse())[:, :1] * x)
            return out

    evidence = loop(ParameterProbe(), Graph(), steps=3)
    assert evidence.parameters is not None
    assert evidence.parameters.looks == 3
    assert evidence.parameters.cut == ["aside"]
