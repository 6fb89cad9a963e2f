"""The pre-norm transformer block."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stablelit.functional.schedules import check_number
from stablelit.nn.attention import SelfAttention


class TransformerBlock(nn.Module):
    """``y = x + A(norm(x))``, then ``y + F(norm(y))``: attention A, and F of two linear layers with a GELU between.

    Source: Xiong et al. 2020 (arXiv:2002.04745), figure 1b: the norm inside the branch needs no warm-up to be stable.

    Args:
        attention: A; its `width` is the block's.
        feedforward: width of F's middle as a multiple of the block's.
        dropout: of what A and F add.

    Raises:
        ConfigurationError: `feedforward` or `dropout` out of range.
    """

    def __init__(self, attention: SelfAttention, feedforward: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        owner = type(self).__name__
        width = attention.width
        middle = int(check_number(owner, "feedforward", feedforward, at_least=1.0 / width) * width)
        check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, middle), nn.GELU(), nn.Linear(middle, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *how: Any, n_queries: int | None = None) -> Tensor:
        """The block's output.

        Args:
            x: what A takes, ``(B, L, d)`` for `SelfAttention`.
            how: what else A takes, a mask for `SelfAttention`.
            n_queries: Q, where only the first Q places of the second dimension are asked for; all by default.

        Returns:
            As `x`, or ``(B, Q, d)``.
        """
        normed = self.attention_norm(x)
        if n_queries is None:
            x = x + self.dropout(self.attention(normed, *how))
        else:
            x = x[:, :n_queries] + self.dropout(self.attention(normed, *how, n_queries=n_queries))
        answer: Tensor = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        return answer
