"""Reads what a loss came from in the graph of autograd, without a hook on any module.

Nodes are numbered by autograd in the order in which the forward pass made them, so that sorting by this number gives
the order from input to loss, also through residual branches. An activation is told by its node, be it a module, a
function or a method; custom functions, compiled and checkpointed parts are seen as one node, or not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

# what a node is called, and the largest derivative that its function has
ACTIVATIONS = {
    "ReluBackward0": ("relu", 1.0),
    "HardtanhBackward0": ("hardtanh", 1.0),
    "ClampMinBackward0": ("clamp", 1.0),
    "TanhBackward0": ("tanh", 1.0),
    "SigmoidBackward0": ("sigmoid", 0.25),
    "GeluBackward0": ("gelu", 1.0),
    "SiluBackward0": ("silu", 1.0),
    "EluBackward0": ("elu", 1.0),
}
# these put channels on the second axis
_PUTS_CHANNELS = re.compile("Convolution|BatchNorm|GroupNorm|InstanceNorm")
# these have features on the last
_PUTS_FEATURES = re.compile("Addmm|MmBackward|BmmBackward|LinearBackward|LayerNorm|RmsNorm")
# a parameter goes through these on its way to the operation that uses it
_VIEWS = (
    "TBackward",
    "Transpose",
    "View",
    "ReshapeAlias",
    "Permute",
    "Unsqueeze",
    "Squeeze",
    "Clone",
    "ToCopy",
    "Split",
    "Select",
    "Slice",
)
_MOST_NODES = 20_000


@dataclass
class Weight:
    """A weight matrix of the graph.

    Args:
        tensor: the parameter.
        depth: weight matrices from it on to the loss on the longest way, itself included.
    """

    tensor: Tensor
    depth: int


@dataclass
class Activation:
    """An elementwise activation of the graph.

    Args:
        node: of autograd.
        kind: of `ACTIVATIONS`.
        steepest: its largest derivative.
        weight: the weight matrix before it.
        channels: whether its units lie on the second axis, and not on the last.
    """

    node: Any
    kind: str
    steepest: float
    weight: Tensor
    channels: bool


@dataclass
class Graph:
    """What was read: both in the order from input to loss.

    Args:
        weights: matrices (linear, convolution); tables of embeddings are left out.
        activations: those that have a weight before and after them.
    """

    weights: list[Weight] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)


def read_graph(loss: Tensor) -> Graph:
    """Everything that a loss came from; empty where it has no graph, or one of more than 20,000 nodes."""
    children = _nodes(loss)
    names = {node: str(node.name()) for node in children}
    order = sorted(children, key=lambda node: int(node._sequence_nr()))
    own: dict[Any, Tensor] = {}
    # those that are a view of a parameter alone, and no operation with it
    views: set[Any] = set()
    before: dict[Any, Tensor | None] = {}
    channels: dict[Any, bool] = {}
    tables: set[int] = set()
    for node in order:
        name = names[node]
        only_views = name.startswith(_VIEWS)
        passed, held, on_second = None, None, False
        for child in children[node]:
            variable = getattr(child, "variable", None)
            if variable is None:
                held = own[child] if child in views else held
                passed = before.get(child) if before.get(child) is not None else passed
                on_second = on_second or channels.get(child, False)
            elif "Embedding" in name:
                tables.add(id(variable))
            elif isinstance(variable, nn.Parameter) and variable.ndim >= 2:
                held = variable
        if held is not None:
            own[node] = held
            if only_views:
                views.add(node)
        before[node] = passed if only_views or held is None else held
        channels[node] = bool(_PUTS_CHANNELS.search(name)) or (on_second and not _PUTS_FEATURES.search(name))
    operations = {node: weight for node, weight in own.items() if node not in views}
    depth = _depths(order, children, operations)
    graph = Graph()
    known: set[int] = set(tables)
    for node in order:
        weight = operations.get(node)
        if weight is not None and id(weight) not in known:
            known.add(id(weight))
            graph.weights.append(Weight(weight, depth[node]))
        weight = before[node]
        # one of a parameter alone is a mask or a gate, and may be closed on purpose
        if names[node] in ACTIVATIONS and node not in own and weight is not None and depth[node] > 0:
            kind, steepest = ACTIVATIONS[names[node]]
            graph.activations.append(Activation(node, kind, steepest, weight, channels[node]))
    return graph


def _depths(order: list[Any], children: dict[Any, list[Any]], operations: dict[Any, Tensor]) -> dict[Any, int]:
    """How many weights lie on the longest way from each node to the loss, its own included."""
    depth: dict[Any, int] = {}
    for node in reversed(order):
        here = depth[node] = depth.get(node, 0) + (node in operations)
        for child in children[node]:
            if depth.get(child, 0) < here:
                depth[child] = here
    return depth


def _nodes(loss: Tensor) -> dict[Any, list[Any]]:
    """All nodes but the leaves, with what each came from, leaves among it."""
    found: dict[Any, list[Any]] = {}
    stack = [loss.grad_fn] if loss.grad_fn is not None else []
    seen = set(stack)
    while stack:
        node = stack.pop()
        found[node] = [child for child, _ in node.next_functions if child is not None]
        if len(found) > _MOST_NODES:
            return {}
        for child in found[node]:
            if child not in seen and not hasattr(child, "variable"):
                seen.add(child)
                stack.append(child)
    return found
