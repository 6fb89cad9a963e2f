"""The transformer of the reference implementation of score-entropy diffusion, by its list of layers.

Re-stated from what its blocks consist of, with PyTorch's fused attention in place of a kernel that runs on GPUs alone:
norms in float32 with a scale; projections without biases; rotary positions; a tanh-GELU of four times the width; scale,
shift and gate from the noise by one linear layer a block; a sinusoidal embedding of sigma; scores of N + 1 states of
which the present one is set to zero.

Source: louaaron/Score-Entropy-Discrete-Diffusion, model/transformer.py; Lou et al. 2024 (arXiv:2310.16834), appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScaledNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x.float(), x.shape[-1:]) * self.scale


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class ReferenceBlock(nn.Module):
    def __init__(self, width: int, heads: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = ScaledNorm(width), ScaledNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(condition, 6 * width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        qkv = self.qkv(self.norm1(x) * (1 + scale1) + shift1)
        query, key, value = qkv.view(*x.shape[:2], 3, self.heads, -1).unbind(dim=2)
        query, key = turned(query, cos, sin), turned(key, cos, sin)
        heads = [part.transpose(1, 2) for part in (query, key, value)]
        attended = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + gate1 * functional.dropout(self.out(attended), self.dropout, self.training)
        fed = self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return x + gate2 * functional.dropout(fed, self.dropout, self.training)


class ReferenceTransformer(nn.Module):
    """Masked codes ``(B, L)`` and sigma ``(B,)`` to log scores ``(B, L, N + 1)``."""

    def __init__(
        self, n_states: int, width: int, blocks: int, heads: int, condition: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.n_states, self.head_width = n_states, width // heads
        self.embedding = nn.Embedding(n_states + 1, width)
        self.sigma_map = nn.Sequential(nn.Linear(256, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.blocks = nn.ModuleList(ReferenceBlock(width, heads, condition, dropout) for _ in range(blocks))
        self.norm, self.modulation = ScaledNorm(width), nn.Linear(condition, 2 * width)
        self.head = nn.Linear(width, n_states + 1)

    def forward(self, codes: Tensor, sigma: Tensor) -> Tensor:
        frequency = torch.exp(-math.log(10_000) * torch.arange(128, dtype=torch.float32) / 128)
        angle = sigma[:, None].float() * frequency
        condition = functional.silu(self.sigma_map(torch.cat([angle.cos(), angle.sin()], dim=-1)))
        rate = 10_000.0 ** (-torch.arange(0, self.head_width, 2).float() / self.head_width)
        turn = torch.arange(codes.shape[1]).float()[:, None] * rate
        cos, sin = (torch.cat([part, part], dim=-1)[:, None] for part in (turn.cos(), turn.sin()))
        x = self.embedding(codes)
        for block in self.blocks:
            x = block(x, cos, sin, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=2)
        x = self.head(self.norm(x) * (1 + scale) + shift)
        small = torch.where(sigma < 0.5, torch.expm1(sigma), sigma.exp() - 1)
        x = x - small.log()[:, None, None] - math.log(self.n_states)
        return torch.scatter(x, -1, codes[..., None], torch.zeros_like(x[..., :1]))


def reference_loss(log_score: Tensor, sigma: Tensor, rate: Tensor, codes: Tensor, x0: Tensor) -> Tensor:
    """The reference's score entropy of the absorbing graph, nats per residue."""
    mask = log_score.shape[-1] - 1
    masked = codes == mask
    small = torch.where(sigma < 0.5, torch.expm1(sigma), sigma.exp() - 1)
    ratio = 1 / small.expand_as(codes.float().T).T[masked]
    scores = log_score[masked]
    negative = ratio * scores.gather(-1, x0[masked][:, None]).squeeze(-1)
    positive = scores[:, :-1].exp().sum(dim=-1)
    entropy = torch.zeros_like(codes, dtype=scores.dtype)
    entropy[masked] = positive - negative + ratio * (ratio.log() - 1)
    return (rate[:, None] * entropy).sum() / codes.numel()
