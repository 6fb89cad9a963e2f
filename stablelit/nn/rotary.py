"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number


class RotaryEmbedding(nn.Module):
    r"""Turns queries and keys by angles that grow with their position, so that a score depends on distances alone.

    Neighbouring coordinates 2i and 2i + 1 of a head, i = 0 ... d/2 - 1, are a complex number, which at position p is
    multiplied by :math:`\exp(j\, p\, \theta^{-2i/d})`, in float32. The turn is the same for every head. Angles are
    kept for the longest sequence so far.

    Args:
        width: d of a head, even.
        base: theta.

    Raises:
        ConfigurationError: an odd width, a base of 1 or less.

    Source: Su et al. 2021 (arXiv:2104.09864), section 3.4.2.
    """

    turn: Tensor

    def __init__(self, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        owner = type(self).__name__
        if check_count(owner, "width", width, 2) % 2:
            raise bad_argument(owner, "width", width, "an even number")
        self.width, self.base = width, check_number(owner, "base", base, above=1.0)
        self.register_buffer("turn", torch.empty(0, width // 2, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, heads, d)`` to the same, turned; the first of L is position 0."""
        length = x.shape[1]
        # a module that becomes half precise takes its buffers with it: those angles would be good for nothing
        if length > len(self.turn) or self.turn.device != x.device or self.turn.dtype != torch.float32:
            self._extend(length, x.device)
        # one product in place of three, two of which go over memory for a swap of halves
        turn = torch.view_as_complex(self.turn[:length, None])
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)

    def _extend(self, length: int, device: torch.device) -> None:
        # in steps of powers of two: batches of many lengths do not each make a table
        length = 1 << (length - 1).bit_length()
        rate = self.base ** (-torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
        self.turn = torch.stack([angle.cos(), angle.sin()], dim=-1).float().to(device)
