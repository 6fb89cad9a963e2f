"""Self-attention of several heads on PyTorch's fused kernels, with the norms of queries and keys held."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_flag, check_number
from stablelit.nn.rotary import RotaryEmbedding


class SelfAttention(nn.Module):
    """``softmax(q k^T / sqrt(d_h) + bias) v``, projected, over the second dimension of its input.

    With `qk_norm`, q and k are normalised over the ``d_h`` of a head, and q is scaled by a learned gain g (one is
    enough: a score has the product of both). Scores cannot grow with the weights then: they are within
    ``sqrt(d_h) max|g|``.

    With `rotary`, q and k are turned by their positions, see `RotaryEmbedding`, after the norms.

    Source: Vaswani et al. 2017 (arXiv:1706.03762) eq. 1; Dehghani et al. 2023 (arXiv:2302.05442) section 2 for
    `qk_norm`.

    Args:
        width: d, of input and output.
        heads: they share d; ``d_h = d / heads``.
        qk_norm: whether queries and keys are normalised.
        dropout: of the attention's weights.
        rotary: whether scores depend on the distance of places.
        bias: whether both projections have one.

    Raises:
        ConfigurationError: not a count, or `heads` do not divide `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        qk_norm: bool = True,
        dropout: float = 0.0,
        rotary: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.width = check_count(owner, "width", width, 1)
        self.heads = check_count(owner, "heads", heads, 1)
        if width % heads:
            raise bad_argument(owner, "heads", heads, f"a divisor of the width, {width}")
        self.dropout = check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
        check_flag(owner, "bias", bias)
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.rotary = RotaryEmbedding(width // heads) if check_flag(owner, "rotary", rotary) else None
        # the layer norm, and not a root mean square, has a fused kernel on all devices
        self.query_norm = nn.LayerNorm(width // heads, bias=False) if check_flag(owner, "qk_norm", qk_norm) else None

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
        return functional.linear(x, layer.weight[start:stop], None if layer.bias is None else layer.bias[start:stop])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The heads' answers side by side, ``(B, Q, d)``, from ``(B, Q, d)``, ``(B, L, d)`` and ``(B, L, d)``."""
        query, key, value = (x.reshape(*x.shape[:-1], self.heads, -1) for x in (query, key, value))
        if self.query_norm is not None:
            # autocast computes the norms in float32, and the three must agree
            key = functional.layer_norm(key, key.shape[-1:]).to(value.dtype)
            query = self.query_norm(query).to(value.dtype)
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(value.dtype)
            if mask.requires_grad and value.device.type == "cpu":
                return _attend_with_bias(query, key, value, mask, dropout).transpose(1, 2).flatten(2)
        answer = functional.scaled_dot_product_attention(query, key, value, mask, dropout)
        return answer.transpose(1, 2).flatten(2)


def _attend_with_bias(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
    # on CPUs scaled_dot_product_attention has no kernel for a bias with a gradient, and composes it of half as many
    # operations again: it scales both q and k, and looks for rows without any key
    heads, scale = query.shape[:2], query.shape[-1] ** -0.5
    query, key, value = (query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    bias = bias.expand(*heads, query.shape[1], key.shape[1]).flatten(0, 1)
    weight = torch.baddbmm(bias, query, key.transpose(1, 2)).softmax(dim=-1)
    return torch.bmm(functional.dropout(weight, dropout), value).view(*heads, query.shape[1], -1)
