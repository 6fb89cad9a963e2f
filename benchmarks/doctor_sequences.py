"""Projects on sequences: the next token by a GRU or a small transformer, and a sum that an RNN keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor_projects import Project, Stranger, batches_of, initialise, loaders_of, project
from benchmarks.doctor_settings import Config


class Recurrent(nn.Module):
    def __init__(self, c: Config, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, c["width"])
        self.gru = nn.GRU(c["width"], c["width"], batch_first=True)
        self.dropout = nn.Dropout(c["dropout"])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.gru(self.embedding(tokens))[0])


class Block(nn.Module):
    """Attention and two layers; `residual` zero begins as the identity (ReZero)."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        width = c["width"]
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(c["dropout"])
        if c["residual"] == "zero":
            for last in (self.out, self.down):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norms[0](x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.dropout(
            self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        )
        return x + self.dropout(self.down(F.gelu(self.up(self.norms[1](x)))))


class Transformer(nn.Module):
    def __init__(self, c: Config, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, c["width"])
        self.places = nn.Parameter(0.02 * torch.randn(c["length"], c["width"]))
        self.blocks = nn.Sequential(*(Block(c) for _ in range(c["depth"])))
        self.norm = nn.LayerNorm(c["width"])
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.places[: tokens.shape[1]]
        return self.norm(self.blocks(x))


class NextToken(Stranger):
    def logits(self, tokens: Tensor) -> Tensor:
        z = self.head(self.encode(tokens))
        return z.softmax(-1) if self.c["output"] == "softmax" else z

    def loss(self, batch: Any) -> Tensor:
        (tokens,) = batch
        return F.cross_entropy(self.logits(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    def score(self, batch: Any) -> Tensor:
        """Accuracy of the next token, above chance."""
        (tokens,) = batch
        right = (self.head(self.encode(tokens[:, :-1])).argmax(-1) == tokens[:, 1:])[:, 1:].float().mean()
        return (right - 1 / self.c["vocabulary"]) / (1 - 1 / self.c["vocabulary"])


def chains(n: int, length: int, vocabulary: int, rare: bool) -> Tensor:
    """Tokens of which each, with 85 percent, follows from the one before it; with `rare`, some hardly ever occur."""
    follows = torch.randperm(vocabulary)
    weights = torch.full((vocabulary,), 1.0)
    if rare:
        weights[vocabulary // 2 :] = 1e-3
        follows = torch.randint(vocabulary // 2, (vocabulary,))
    tokens = [torch.multinomial(weights, n, replacement=True)]
    for _ in range(length):
        drawn = torch.multinomial(weights, n, replacement=True)
        tokens.append(torch.where(torch.rand(n) < 0.85, follows[tokens[-1]], drawn))
    return torch.stack(tokens, 1)


@project(
    "tokens",
    network="gru",
    vocabulary=20,
    length=12,
    output="logits",
    residual="default",
    tied=False,
    rare_tokens=False,
    labels_shuffled=False,
    validation_overlap=0.0,
)
def tokens(c: Config) -> Project:
    n = c["n_train"]
    x = chains(n + c["n_val"], c["length"], c["vocabulary"], c["rare_tokens"])
    if c["labels_shuffled"]:
        x[:, 1:] = x[:, 1:][:, :, None].squeeze(-1)[torch.randperm(len(x))][:, torch.randperm(c["length"])]
    module = NextToken(c)
    module.encoder = (Recurrent if c["network"] == "gru" else Transformer)(c, c["vocabulary"])
    module.head = nn.Linear(c["width"], c["vocabulary"], bias=not c["tied"])
    if c["tied"]:
        module.head.weight = module.encoder.embedding.weight
    initialise(module, c)
    val = x[n:].clone()
    clean = batches_of((val.clone(),))
    if taken := int(c["validation_overlap"] * len(val)):
        val[:taken] = x[:taken]
    return Project(module, *loaders_of((x[:n],), (val,), c), clean)


class Remembering(Stranger):
    def predict(self, x: Tensor) -> Tensor:
        return self.head(self.encode(x)).squeeze(-1)

    def encode(self, *inputs: Tensor) -> Tensor:
        return self.encoder(*inputs)[0][:, -1]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.mse_loss(self.predict(x), y)

    def score(self, batch: Any) -> Tensor:
        x, y = batch
        return (1 - F.mse_loss(self.predict(x), y) / y.var()).clamp(min=-1.0)


@project("memory", length=20, recurrent_gain=None)
def memory(c: Config) -> Project:
    """The standardised sum of a series, by an RNN of tanh."""
    n, length = c["n_train"] + c["n_val"], c["length"]
    x = torch.randn(n, length, 2)
    y = x[..., 0].sum(1) / length**0.5
    module = Remembering(c)
    module.encoder = nn.RNN(2, c["width"], batch_first=True)
    module.head = nn.Linear(c["width"], 1)
    if c["recurrent_gain"] is not None:
        nn.init.orthogonal_(module.encoder.weight_hh_l0, c["recurrent_gain"])
    initialise(module, c)
    k = c["n_train"]
    val = (x[k:], y[k:])
    return Project(module, *loaders_of((x[:k], y[:k]), val, c), batches_of(val))
