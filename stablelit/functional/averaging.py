r"""Exponential moving averages of tensors: their decay, and the arithmetic on many tensors at once.

.. math:: \bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta

An average with decay d looks back on :math:`1 / (1 - d)` updates, or half of it on :math:`\ln 2 / (1 - d)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stablelit.functional.schedules import check_count, check_number

_OWNER = "averaging"


def ema_decay(n_averaged: int, decay: float, warm_up: bool = True) -> float:
    r"""The decay of the update that follows `n_averaged` others.

    .. math:: d_0 = 0,\qquad d_n = \min\!\left(d, \frac{1 + n}{10 + n}\right)

    The first update copies. Without the warm-up what is copied there keeps the weight :math:`d^n`: 69 % of an average
    with d = 0.9999 after 3,700 updates. With it an average looks back on a ninth of the run until it is as slow as d.

    Args:
        n_averaged: updates so far.
        decay: d.
        warm_up: whether the decay grows to d, or is d from the second update on.

    Source: the warm-up is `tf.train.ExponentialMovingAverage`'s `num_updates`, as in Song et al. 2021
        (arXiv:2011.13456) and the discrete diffusion models after it.

    >>> [round(ema_decay(n, 0.9), 2) for n in (0, 1, 10, 100)]
    [0.0, 0.18, 0.55, 0.9]
    """
    if n_averaged <= 0:
        return 0.0
    return min(decay, (1.0 + n_averaged) / (10.0 + n_averaged)) if warm_up else decay


def half_life_decay(half_life: float, every: int = 1) -> float:
    r""":math:`2^{-m/h}`: the decay of an update every m steps under which a value's share halves in h steps.

    Raises:
        ConfigurationError: a half-life that is not above 0, or m below 1.

    >>> half_life_decay(10, every=10)
    0.5
    """
    check_number(_OWNER, "half_life", half_life, above=0.0)
    return float(2.0 ** (-check_count(_OWNER, "every", every, 1) / half_life))


def average_dtype(value: Tensor) -> torch.dtype:
    """float32 for what is stored in less: in bfloat16 an average stands still as soon as d is above 0.996."""
    return torch.promote_types(value.dtype, torch.float32)


@torch.no_grad()
def blend_(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    """``a <- d a + (1 - d) v`` of every pair, in place; ``d = 0`` copies exactly.

    A few kernels for all tensors of a kind; no wait for the device.

    Args:
        averages: floating point.
        values: of the same shapes, of any floating type, on the same devices.
        decay: d in [0, 1].
    """
    for group, others in _kinds(averages, values):
        dtype = group[0].dtype
        same = [value if value.dtype == dtype else value.to(dtype) for value in others]
        torch._foreach_lerp_(group, same, 1.0 - decay)


@torch.no_grad()
def copy_(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """``t <- v`` of every pair, in place, rounded to the target's type."""
    for group, others in _kinds(targets, values):
        torch._foreach_copy_(group, others)


def _kinds(first: Sequence[Tensor], second: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Pairs whose first members are of one type on one device: only those go through one kernel."""
    kinds: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(first, second, strict=True):
        kind = (a.device, a.dtype)
        if kind not in kinds:
            kinds[kind] = ([], [])
        group, others = kinds[kind]
        group.append(a)
        others.append(b)
    return iter(kinds.values())
