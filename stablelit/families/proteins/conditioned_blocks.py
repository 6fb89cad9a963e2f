"""What the level of noise does inside a transformer: it scales, shifts and gates (adaLN).

Source: Peebles and Xie 2023 (arXiv:2212.09748), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.functional.schedules import check_number
from stablelit.nn import SelfAttention


class NoiseLevelEmbedding(nn.Module):
    r"""The level of noise as a vector: sines and cosines of the mask probability, and two layers.

    Of :math:`p = 1 - e^{-\sigma}`, in [0, 1]: :math:`\cos` and :math:`\sin` of :math:`1000\, p\, \omega_i`, with
    frequencies from 1 to 1e-4.

    Args:
        width: of the vector.
        frequencies: how many.
    """

    def __init__(self, width: int, frequencies: int = 64) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        """``(B,)`` to ``(B, width)``."""
        # no buffer: a network of half precision would round it, and an angle of 1000 with it
        order = torch.arange(self.frequencies, device=sigma.device, dtype=torch.float32)
        omega = 1000.0 * torch.exp(-math.log(1e4) * order / max(self.frequencies - 1, 1))
        angle = -torch.expm1(-sigma.float())[:, None] * omega
        answer: Tensor = self.layers(torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.layers[0].weight.dtype))
        return answer


class ConditionedNorm(nn.Module):
    """A layer norm whose scale and shift come from the level of noise; or are learned, where there is none.

    Args:
        width: d.
        condition: width of the level's vector, or None.
    """

    def __init__(self, width: int, condition: int | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=condition is None)
        self.modulation = None if condition is None else _modulation(condition, 2 * width)

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        """``(B, L, d)`` and ``(B, condition)`` to ``(B, L, d)``."""
        normed: Tensor = self.norm(x)
        if self.modulation is None:
            return normed
        shift, scale = self.modulation(level)[:, None].chunk(2, dim=-1)
        return torch.addcmul(shift, normed, 1 + scale)


class ConditionedBlock(nn.Module):
    """``y = x + a A(n(x))``, then ``y + f F(m(y))``: norms n and m scaled and shifted, and gates a and f, by the noise.

    Args:
        attention: A; its `width` is the block's.
        condition: width of the vector that the six come from, or None: norms have learned scales, and the gates are
            learned vectors.
        feedforward: width of F's middle as a multiple of the block's.
        dropout: of what A and F add.
        gate_init: what the gates begin with.

    Raises:
        ConfigurationError: `feedforward` or `dropout` out of range.
    """

    def __init__(
        self,
        attention: SelfAttention,
        condition: int | None,
        feedforward: float = 4.0,
        dropout: float = 0.0,
        gate_init: float = 0.0,
    ) -> None:
        super().__init__()
        owner, width = type(self).__name__, attention.width
        middle = int(check_number(owner, "feedforward", feedforward, at_least=1.0 / width) * width)
        self.dropout = check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
        affine = condition is None
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.attention = attention
        self.feedforward_norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.feedforward = nn.Sequential(nn.Linear(width, middle), nn.GELU(), nn.Linear(middle, width))
        if condition is None:
            self.modulation = None
            self.gates = nn.Parameter(torch.full((2, width), float(gate_init)))
        else:
            self.modulation = _modulation(condition, 6 * width)
            with torch.no_grad():
                self.modulation.bias.view(6, width)[[2, 5]] = gate_init

    def forward(
        self, x: Tensor, level: Tensor | None, mask: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """``(B, L, d)`` to the same.

        Args:
            x: ``(B, L, d)``.
            level: ``(B, condition)``.
            mask: as `SelfAttention` takes it.
            rows: ``(R,)``, of the B L places one after another those that are asked for; then the answer is
                ``(R, 1, d)``.
        """
        affine = self._affine(level)
        (shift, scale, gate), (shift2, scale2, gate2) = affine[:3], affine[3:]
        attended = self._attended(self._modulated(self.attention_norm(x), shift, scale), mask, rows)
        if rows is not None:
            # places as sequences of one, so that what is said of a sequence can be said of each
            sequence = rows // x.shape[1]
            x = x.flatten(0, 1)[rows][:, None]
            if level is not None:
                gate, shift2, scale2, gate2 = (part[sequence] for part in (gate, shift2, scale2, gate2))
        x = self._added(x, gate, attended)
        fed = self.feedforward(self._modulated(self.feedforward_norm(x), shift2, scale2))
        return self._added(x, gate2, fed)

    def _affine(self, level: Tensor | None) -> Sequence[Tensor]:
        """Shift, scale and gate of both branches."""
        if self.modulation is None:
            none = self.gates.new_empty(0)
            return none, none, self.gates[0], none, none, self.gates[1]
        return self.modulation(level)[:, None].chunk(6, dim=-1)  # type: ignore[no-any-return]

    def _modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return x if self.modulation is None else torch.addcmul(shift, x, 1 + scale)

    def _attended(self, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Tensor:
        attention = self.attention
        if rows is None:
            return attention(x, mask)  # type: ignore[no-any-return]
        heads = attention.attend(*attention.query_key_value(x).chunk(3, dim=-1), mask)
        return attention.out(heads.flatten(0, 1)[rows])[:, None]  # type: ignore[no-any-return]

    def _added(self, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
        """``x + gate * dropout(y)``."""
        if not self.training or not self.dropout:
            return torch.addcmul(x, gate, y)
        if y.device.type != "cpu":
            return torch.addcmul(x, gate, functional.dropout(y, self.dropout))
        kept = y.masked_fill(drawn_to_drop(y.shape, self.dropout), 0.0)
        return torch.addcmul(x, gate, kept, value=1.0 / (1.0 - self.dropout))


def drawn_to_drop(shape: Sequence[int], share: float) -> Tensor:
    """Which of so many places are dropped, bool on the CPU: each with probability `share`, exact to 2^-16.

    PyTorch draws a float of its own for every place, which takes four times as long as 16 bits of an integer.
    """
    size = math.prod(shape)
    bits = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:size] < round(share * 2**16) - 2**15).view(*shape)


def _modulation(condition: int, width: int) -> nn.Linear:
    """A linear layer that begins with no effect."""
    layer = nn.Linear(condition, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
