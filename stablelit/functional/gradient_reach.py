"""Whether a scalar sends a gradient to parameters: looked at while the graph is still there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ReachState = Literal["reaches", "zero", "unused", "detached", "frozen", "non-finite"]

# a gradient that half precision rounds to zero is seen at this multiple of it, which is below its largest number
_MAGNIFIED = 2.0**15


@dataclass(frozen=True)
class Reach:
    """What arrives of a component's gradient at some parameters.

    Args:
        state: `reaches`; `zero` (connected, and exactly zero everywhere); `unused` (no path from the parameters to the
            component); `detached` (the component has no graph at all); `frozen` (no parameter asks for a gradient);
            `non-finite`.
        norm: L2 norm of the gradient of the component's sum.
        reached: parameters with a gradient that is not zero.
        parameters: of how many.
    """

    state: ReachState
    norm: float = 0.0
    reached: int = 0
    parameters: int = 0


def component_gradients(component: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of a component's sum, None where there is no path; the graph stays, and no `.grad` is touched.

    `torch.autograd.grad` stops at the parameters, so that hooks on gradient accumulation (those of DDP) do not run.

    Args:
        component: of any shape.
        parameters: each with ``requires_grad``; none is fine.

    Raises:
        RuntimeError: of autograd: the graph was freed, or a part of it cannot be walked twice.
    """
    if not component.requires_grad or not parameters:
        return [None] * len(parameters)
    gradients = _gradients(component, parameters, 1.0)
    if all(gradient is None or not bool(gradient.any()) for gradient in gradients):
        magnified = _gradients(component, parameters, _MAGNIFIED)
        gradients = [None if g is None else g.float() / _MAGNIFIED for g in magnified]
    return gradients


def judge_reach(component: Tensor, gradients: Sequence[Tensor | None], any_trainable: bool = True) -> Reach:
    """What those gradients of `component` say.

    Args:
        component: whose gradients they are.
        gradients: from :func:`component_gradients`, of some of the parameters.
        any_trainable: whether among the parameters there are some that ask for a gradient.
    """
    if not component.requires_grad:
        return Reach("detached", parameters=len(gradients))
    if not any_trainable:
        return Reach("frozen")
    present = [gradient for gradient in gradients if gradient is not None]
    norms = [float(torch.linalg.vector_norm(g.detach(), dtype=torch.float64)) for g in present]
    norm = math.sqrt(math.fsum(n * n for n in norms)) if all(map(math.isfinite, norms)) else math.nan
    reached = sum(n > 0 or math.isnan(n) for n in norms)
    if not present:
        return Reach("unused", parameters=len(gradients))
    state: ReachState = "non-finite" if not math.isfinite(norm) else "reaches" if reached else "zero"
    return Reach(state, norm, reached, len(gradients))


def unexplained_share(gradients: Sequence[Tensor | None], others: Sequence[Sequence[Tensor | None]]) -> float:
    r"""How much of a gradient is no linear combination of others: the relative residual of least squares.

    .. math:: \min_w \lVert g - \sum_i w_i g_i \rVert / \lVert g \rVert

    A loss :math:`L = \sum_i w_i L_i + c` whose part c sends no gradient has a residual of 0, whatever the weights are.

    Args:
        gradients: g, a tensor or None for each parameter.
        others: the :math:`g_i`, likewise.

    Returns:
        A number in [0, 1]; 0 where g is zero.
    """
    vectors = [gradients, *others]
    products = torch.tensor([[_inner(a, b) for b in vectors] for a in vectors], dtype=torch.float64)
    whole = float(products[0, 0])
    if whole == 0.0:
        return 0.0
    # of vectors of unit length, so that a tiny component counts as much as a large one
    length = products.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    unit = products / (length[:, None] * length[None, :])
    explained = float(unit[0, 1:] @ torch.linalg.pinv(unit[1:, 1:], rtol=1e-12) @ unit[1:, 0]) if others else 0.0
    return math.sqrt(min(max(1.0 - explained, 0.0), 1.0))


def _gradients(component: Tensor, parameters: Sequence[Tensor], scale: float) -> list[Tensor | None]:
    seed = torch.full_like(component, scale)
    found = torch.autograd.grad(component, parameters, seed, retain_graph=True, allow_unused=True)
    return [None if g is None else _dense(g) for g in found]


def _dense(gradient: Tensor) -> Tensor:
    whole = getattr(gradient, "full_tensor", None)  # of a sharded parameter
    dense: Tensor = whole() if callable(whole) else gradient
    return dense.to_dense() if dense.layout != torch.strided else dense


def _inner(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> float:
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return math.fsum(float(torch.dot(x.flatten().double(), y.flatten().double())) for x, y in pairs)
