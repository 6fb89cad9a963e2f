"""What probes ask of tensors, in few calls and with few waits for a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sample(tensors: list[Tensor], most: int) -> list[Tensor]:
    """About `most` numbers of each tensor, evenly spread (flat; views where that is possible)."""
    flat = (tensor.detach().reshape(-1) for tensor in tensors)
    # an odd distance: of a matrix with 512 columns an even one would see a few columns alone
    return [numbers[:: max(1, numbers.numel() // most) | 1] for numbers in flat]


def dense_gradient(tensor: Tensor) -> Tensor | None:
    """The gradient, detached; None where there is none, or a sparse one."""
    gradient = tensor.grad
    return None if gradient is None or gradient.layout != torch.strided else gradient.detach()


def read_numbers(sizes: Sequence[Tensor]) -> list[float]:
    """The values of tensors of one number each; one wait for the device, where all lie on one."""
    if len({size.device for size in sizes}) != 1:
        return [float(size) for size in sizes]
    numbers: list[float] = torch.stack(list(sizes)).tolist()
    return numbers


def rows_differ(rows: Tensor) -> bool:
    """Whether some row is not equal to the first, of two at least; the second is asked before all others."""
    if len(rows) < 2:
        return False
    # of nearly any batch these two differ
    return not torch.equal(rows[0], rows[1]) or bool((rows != rows[:1]).any())
