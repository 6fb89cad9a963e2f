"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number


class RotaryEmbedding(nn.Module):
    r"""Turns queries and keys by angles that grow with their position, so that a score depends on distances alone.

    Coordinates i and i + d/2 of a head, i = 0 ... d/2 - 1, are turned at position p by :math:`p\,\theta^{-2i/d}`. The
    turn is the same for every head. Angles are kept for the longest sequence so far, in float32.

    Args:
        width: d of a head, even.
        base: theta.

    Raises:
        ConfigurationError: an odd width, a base of 1 or less.

    Source: Su et al. 2021 (arXiv:2104.09864), section 3.4.2, with halves in place of neighbours as is usual since.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        owner = type(self).__name__
        if check_count(owner, "width", width, 2) % 2:
            raise bad_argument(owner, "width", width, "an even number")
        self.width, self.base = width, check_number(owner, "base", base, above=1.0)
        self.register_buffer("cos", torch.empty(0, width), persistent=False)
        self.register_buffer("sin", torch.empty(0, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, heads, d)`` to the same, turned; the first of L is position 0."""
        length, half = x.shape[1], self.width // 2
        if length > len(self.cos) or self.cos.device != x.device:
            self._extend(length, x.device)
        cos, sin = (table[:length, None].to(x.dtype) for table in (self.cos, self.sin))
        # the sign of the first half lies in the table of sines
        swapped = torch.cat([x[..., half:], x[..., :half]], dim=-1)
        return torch.addcmul(x * cos, swapped, sin)

    def _extend(self, length: int, device: torch.device) -> None:
        # in steps of powers of two: batches of many lengths do not each make a table
        length = 1 << (length - 1).bit_length()
        rate = self.base ** (-torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
        self.cos = torch.cat([angle.cos()] * 2, dim=1).float().to(device)
        self.sin = torch.cat([-angle.sin(), angle.sin()], dim=1).float().to(device)
