r"""Differentiable measures of how cyclic a weighted graph is; each is 0 exactly for an acyclic one, except the last.

With :math:`M = W \circ W`, so that every entry counts by its size and not by its sign:

================  ==================================================  ================================================
`log_det`         :math:`-\log\det(sI - M) + d\log s`                 Bello et al. 2022, eq. 5 (arXiv 2209.08037)
`exponential`     :math:`\operatorname{tr} e^{M} - d`                 Zheng et al. 2018, eq. 9 (arXiv 1803.01422)
`polynomial`      :math:`\operatorname{tr}(I + M/d)^d - d`            Yu et al. 2019, eq. 13 (arXiv 1904.10098)
`trace_power`     :math:`\max(0, \operatorname{tr}(I + A/d)^n - d)`   of the post-mortem, where A is not squared
================  ==================================================  ================================================

They differ in how far they see. The gradient of a cycle of length 10 with weights of 0.5 is 4e-6 by the
log-determinant and 1e-11 by the exponential. The trace of the n-th power sees no cycle longer than n. All are computed
in float64, the first three with their gradients in closed form: one factorisation a call, which autograd would do again
for the backward pass.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Acyclicity = Literal["log_det", "exponential", "polynomial", "trace_power", "none"]
ACYCLICITIES: tuple[str, ...] = get_args(Acyclicity)


class _LogDet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, s: Tensor) -> Tensor:
        matrix = torch.diag_embed(s.expand(len(weights))) - weights * weights
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        diagonal = factors.diagonal()
        # the determinant of a matrix of the domain is positive: signs of the factors cancel
        value = len(weights) * s.log() - diagonal.abs().log().sum()
        identity = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
        inverse = torch.linalg.lu_solve(factors, pivots, identity)
        ctx.save_for_backward(2.0 * weights * inverse.T)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (along,) = ctx.saved_tensors
        return gradients[0] * along, None


class _TraceExponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor) -> Tensor:
        exponential = torch.linalg.matrix_exp(weights * weights)
        ctx.save_for_backward(2.0 * weights * exponential.T)
        return exponential.trace() - len(weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (along,) = ctx.saved_tensors
        return (gradients[0] * along,)


class _TracePolynomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor) -> Tensor:
        d = len(weights)
        base = torch.eye(d, dtype=weights.dtype, device=weights.device) + weights * weights / d
        power = torch.linalg.matrix_power(base, d - 1)
        ctx.save_for_backward(2.0 * weights * power.T)
        return (power * base.T).sum() - d

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (along,) = ctx.saved_tensors
        return (gradients[0] * along,)


def log_det_acyclicity(weights: Tensor, s: Tensor | float = 1.0) -> Tensor:
    r""":math:`h_s(W) = -\log\det(sI - W \circ W) + d \log s`, 0 exactly where W is acyclic.

    It holds inside the domain :math:`\rho(W \circ W) < s` alone, where :math:`\rho` is the spectral radius: see
    `inside_domain`. Outside, the value means nothing. Its gradient is
    :math:`2 W \circ (sI - W \circ W)^{-\top}`.

    Args:
        weights: (d, d), any floating type; the value is float64.
        s: above 0; a smaller s has a larger gradient on long cycles, and a smaller domain.
    """
    with torch.autocast(weights.device.type, enabled=False):
        scale = torch.as_tensor(s, dtype=torch.float64, device=weights.device)
        value: Tensor = _LogDet.apply(weights.double(), scale)
    return value


def exponential_acyclicity(weights: Tensor) -> Tensor:
    r""":math:`\operatorname{tr} e^{W \circ W} - d`, with gradient :math:`2 W \circ (e^{W \circ W})^\top`."""
    with torch.autocast(weights.device.type, enabled=False):
        value: Tensor = _TraceExponential.apply(weights.double())
    return value


def polynomial_acyclicity(weights: Tensor) -> Tensor:
    r""":math:`\operatorname{tr}(I + W \circ W/d)^d - d`, gradient :math:`2 W \circ ((I + W \circ W/d)^{d-1})^\top`."""
    with torch.autocast(weights.device.type, enabled=False):
        value: Tensor = _TracePolynomial.apply(weights.double())
    return value


def trace_power_acyclicity(adjacency: Tensor, power: int = 3) -> Tensor:
    r"""The post-mortem's :math:`\max(0, \operatorname{tr}(I + A/d)^n - d)`, for A of any sign.

    It sees closed walks of at most n edges, each by :math:`d^{-L}`: of a 3-cycle with weights of 0.9 at d = 13 it sees
    1.4e-3 (from `power` 3 on), of a 4-cycle nothing. The trace of a graph of positive entries on the diagonal is above
    d whatever the edges are.

    Args:
        adjacency: (d, d).
        power: n, `n_power` of the post-mortem.
    """
    d = len(adjacency)
    with torch.autocast(adjacency.device.type, enabled=False):
        base = torch.eye(d, dtype=torch.float64, device=adjacency.device) + adjacency.double() / d
        return torch.relu(torch.linalg.matrix_power(base, power).trace() - d)


def acyclicity(kind: Acyclicity, weights: Tensor, s: Tensor | float = 1.0, power: int = 3) -> Tensor:
    """The measure by its name; `none` is a zero that is attached to no parameter.

    Args:
        kind: see the module's table.
        weights: (d, d).
        s: of `log_det`.
        power: of `trace_power`.
    """
    if kind == "log_det":
        return log_det_acyclicity(weights, s)
    if kind == "exponential":
        return exponential_acyclicity(weights)
    if kind == "polynomial":
        return polynomial_acyclicity(weights)
    if kind == "trace_power":
        return trace_power_acyclicity(weights, power)
    return torch.zeros((), dtype=torch.float64, device=weights.device)


@torch.no_grad()
def inside_domain(weights: Tensor, s: float | Tensor) -> bool:
    r"""Whether :math:`\rho(W \circ W) < s`, where `log_det_acyclicity` holds.

    The largest row or column sum bounds the spectral radius and settles most cases without a factorisation. Otherwise
    :math:`sI - W \circ W` is an M-matrix exactly where its inverse has no negative entry (Berman and Plemmons 1994,
    theorem 6.2.3, N38).
    """
    squares = weights.double() ** 2
    s = float(s)
    if not bool(torch.isfinite(squares).all()):
        return False
    if float(torch.minimum(squares.sum(0).max(), squares.sum(1).max())) < s:
        return True
    matrix = s * torch.eye(len(squares), dtype=squares.dtype, device=squares.device) - squares
    inverse, failed = torch.linalg.inv_ex(matrix)
    # an entry that is zero in exact arithmetic may come out as a rounding below it
    return int(failed) == 0 and float(inverse.min()) >= -1e-12 * float(inverse.abs().max())


@torch.no_grad()
def spectral_radius(weights: Tensor) -> float:
    r""":math:`\rho(W \circ W)`, 0 exactly where W is acyclic."""
    return float(torch.linalg.eigvals(weights.double() ** 2).abs().max())
