"""Self-attention of several heads on PyTorch's fused kernels, with the norms of queries and keys held."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_flag, check_number


class SelfAttention(nn.Module):
    """``softmax(q k^T / sqrt(d_h) + bias) v``, projected, over the second dimension of its input.

    With `qk_norm`, q and k are divided by their root mean square over the ``d_h`` of a head and scaled by learned
    gains, so that scores cannot grow with the weights: the logits that blow up in bf16 are bounded by
    ``sqrt(d_h) max|g_q g_k|``.

    Source: Vaswani et al. 2017 (arXiv:1706.03762) eq. 1; Dehghani et al. 2023 (arXiv:2302.05442) for `qk_norm`, here
    with root mean squares (Zhang, Sennrich 2019, arXiv:1910.07467) in place of layer norms.

    Args:
        width: d, of input and output.
        heads: they share d; ``d_h = d / heads``.
        qk_norm: whether queries and keys are normalised.
        dropout: of the attention's weights.

    Raises:
        ConfigurationError: not a count, or `heads` do not divide `width`.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        owner = type(self).__name__
        self.width = check_count(owner, "width", width, 1)
        self.heads = check_count(owner, "heads", heads, 1)
        if width % heads:
            raise bad_argument(owner, "heads", heads, f"a divisor of the width, {width}")
        self.dropout = check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        head_width = width // heads
        self.query_norm: nn.Module | None = None
        self.key_norm: nn.Module | None = None
        if check_flag(owner, "qk_norm", qk_norm):
            # torch's default is the dtype's epsilon, with which a query of zeros has a gradient of 3,000
            self.query_norm, self.key_norm = nn.RMSNorm(head_width, eps=1e-6), nn.RMSNorm(head_width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None = None, n_queries: int | None = None) -> Tensor:
        """Attends.

        Args:
            x: ``(B, L, d)``.
            mask: what `scaled_dot_product_attention` takes: a bool, True where a key is seen, or a float that is added
                to the scores; of a shape that becomes ``(B, heads, Q, L)``.
            n_queries: Q, where only the first Q places are asked for; all by default.

        Returns:
            ``(B, Q, d)``.
        """
        d = self.width
        if n_queries is None:
            query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        else:
            query = self.part(x[:, :n_queries], 0, d)
            key, value = self.part(x, d, 3 * d).chunk(2, dim=-1)
        attended: Tensor = self.out(self.attend(query, key, value, mask))
        return attended

    def part(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Some rows of the projection to queries (0 to d), keys (d to 2 d) and values (2 d to 3 d)."""
        layer = self.query_key_value
        return functional.linear(x, layer.weight[start:stop], layer.bias[start:stop])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The heads' answers side by side, ``(B, Q, d)``, from ``(B, Q, d)``, ``(B, L, d)`` and ``(B, L, d)``."""
        query, key, value = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, value))
        if self.query_norm is not None and self.key_norm is not None:
            # autocast computes the norms in float32, and the three must agree
            query, key = self.query_norm(query).to(value.dtype), self.key_norm(key).to(value.dtype)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(value.dtype)
        answer = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            mask,
            self.dropout if self.training else 0.0,
        )
        return answer.transpose(1, 2).flatten(2)
