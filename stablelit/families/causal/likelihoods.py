r"""How probable a residual is: the negative log-likelihood of each cell, in nats, by the noise that is assumed.

With residual r and scale :math:`\sigma` of its column:

================  ===========================================================================  =======================
`gaussian`        :math:`r^2/2\sigma^2 + \log\sigma + \frac12\log 2\pi`                         scale free
`equal_variance`  the same with one :math:`\sigma` for all columns                              depends on the units
`laplace`         :math:`|r|/\sigma + \log 2\sigma`                                             scale free
`student`         :math:`\frac{\nu+1}{2}\log(1 + r^2/\nu\sigma^2) + \log\sigma + c_\nu`         scale free
`squared_error`   :math:`r^2`, no likelihood: the post-mortem's reconstruction loss             depends on the units
================  ===========================================================================  =======================

*Scale free* means that the best graph stays the same when columns change their units. Gaussian noise of unequal
variances tells graphs apart only up to their Markov equivalence class (Verma and Pearl 1990); equal variances (Peters
and Buehlmann 2014) or non-Gaussian noise (Shimizu et al. 2006) tell them apart wholly, if that is what the data have.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Noise = Literal["gaussian", "equal_variance", "laplace", "student", "squared_error"]
NOISES: tuple[str, ...] = get_args(Noise)
SCALE_DEPENDENT = ("equal_variance", "squared_error")
STUDENT_DEGREES = 4.0
# below so many scales the absolute value is rounded off: its gradient would jump between -1 and 1 at the optimum
LAPLACE_ROUNDING = 1e-3

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
_STUDENT_CONSTANT = (
    math.lgamma(STUDENT_DEGREES / 2)
    - math.lgamma((STUDENT_DEGREES + 1) / 2)
    + 0.5 * math.log(STUDENT_DEGREES * math.pi)
)


def cell_nll(noise: Noise, residual: Tensor, log_scale: Tensor) -> Tensor:
    """The negative log-likelihood of each cell, nats (of `squared_error` its square).

    Args:
        noise: see the module's table.
        residual: (..., d).
        log_scale: logarithm of the scale, broadcastable: (d,) or (..., d); of `equal_variance` 0-dim.

    Returns:
        The shape of `residual`.
    """
    if noise == "squared_error":
        return residual**2
    scaled = residual * torch.exp(-log_scale)
    if noise == "laplace":
        # sqrt(r^2 + c^2) - c is |r| but for c, and smooth at 0
        rounded = torch.sqrt(scaled**2 + LAPLACE_ROUNDING**2) - LAPLACE_ROUNDING
        return rounded + log_scale + math.log(2.0)
    if noise == "student":
        tail = 0.5 * (STUDENT_DEGREES + 1) * torch.log1p(scaled**2 / STUDENT_DEGREES)
        return tail + log_scale + _STUDENT_CONSTANT
    return 0.5 * scaled**2 + log_scale + _HALF_LOG_2_PI


def mean_over_scored(cells: Tensor, scored: Tensor, count: Tensor | None = None) -> Tensor:
    """The mean of the cells that count; 0 where none does.

    Args:
        cells: (B, d).
        scored: (B, d) bool.
        count: by what the sum is divided, 0-dim, where it is not the number of cells that count: in data-parallel
            training the mean of that number over ranks.
    """
    counted = scored.to(cells.dtype)
    number = counted.sum() if count is None else count.to(cells.dtype)
    # ranks may have less than one each
    return (cells * counted).sum() / torch.where(number > 0, number, 1.0)


def best_log_scale(noise: Noise, residual: Tensor, scored: Tensor) -> Tensor:
    r"""The scale that maximises the likelihood of residuals, by column: (d,), logarithm.

    :math:`\sqrt{\overline{r^2}}` of the Gaussian ones, :math:`\overline{|r|}` of Laplace; of Student's t the fixed
    point of its likelihood equation, after 30 rounds from the variance.

    Args:
        noise: see the module's table.
        residual: (B, d).
        scored: (B, d) bool.
    """
    counted = scored.to(residual.dtype)
    n = counted.sum(0).clamp(min=1.0)
    if noise == "squared_error":
        return residual.new_zeros(residual.shape[-1])
    if noise == "laplace":
        return ((residual.abs() * counted).sum(0) / n).clamp(min=1e-12).log()
    square = (residual**2 * counted).sum(0) / n
    if noise == "equal_variance":
        pooled = (residual**2 * counted).sum() / counted.sum().clamp(min=1.0)
        return pooled.clamp(min=1e-24).sqrt().log().expand(residual.shape[-1])
    if noise == "student":
        for _ in range(30):
            weight = (STUDENT_DEGREES + 1) / (STUDENT_DEGREES + residual**2 / square.clamp(min=1e-24))
            square = (weight * residual**2 * counted).sum(0) / n
    return square.clamp(min=1e-24).sqrt().log()
