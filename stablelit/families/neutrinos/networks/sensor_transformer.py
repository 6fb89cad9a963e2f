"""The lower level: a transformer over the pulses of each sensor, and one vector a sensor from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.neutrinos.event_batch import N_PULSE_FEATURES, Batch
from stablelit.families.neutrinos.networks.feature_embedding import FeatureEmbedding
from stablelit.families.neutrinos.networks.size_classes import (
    SizeClass,
    SizeClassAttention,
    by_class,
    size_classes,
)
from stablelit.functional.schedules import check_count
from stablelit.nn import TransformerBlock

SENSOR_POOLS = ("attention", "mean", "max")


class SensorPooling(nn.Module):
    """One vector a sensor from those of its pulses ``h_i``: a mean, a maximum, or for each head a weighted mean.

    ``attention``: with d split among the heads a, ``sum_i softmax_i(w_a . h_i + b_a) h_i^a``. All three leave a sensor
    of one pulse as it is.

    Args:
        width: d.
        heads: of the weighted mean.
        pool: "attention", "mean" or "max".

    Raises:
        ConfigurationError: no such pool, or `heads` do not divide `width`.
    """

    def __init__(self, width: int, heads: int, pool: str = "attention") -> None:
        super().__init__()
        owner = type(self).__name__
        if pool not in SENSOR_POOLS:
            raise bad_argument(owner, "pool", pool, ", ".join(SENSOR_POOLS), did_you_mean(str(pool), SENSOR_POOLS))
        if width % check_count(owner, "heads", heads, 1):
            raise bad_argument(owner, "heads", heads, f"a divisor of the width, {width}")
        self.pool, self.heads = pool, heads
        # a bias b_a would be the same for all pulses, and cancel
        self.score = nn.Linear(width, heads, bias=False) if pool == "attention" else None

    def forward(self, tokens: Tensor, classes: list[SizeClass]) -> Tensor:
        """Sensors in the order of classes, ``(D, d)``, from the list of slots ``(T, d)``."""
        parts = zip(by_class(tokens, classes), classes, strict=True)
        return torch.cat([self._one(part, one.there[..., None]) for part, one in parts])

    def _one(self, tokens: Tensor, there: Tensor) -> Tensor:
        if tokens.shape[1] == 1:
            return tokens[:, 0]
        if self.score is not None:
            weight = self.score(tokens).float().masked_fill(~there, -torch.inf).softmax(dim=1)
            by_head = tokens.unflatten(-1, (self.heads, -1))
            return (weight[..., None] * by_head).sum(dim=1).flatten(1)
        if self.pool == "mean":
            return (tokens * there).sum(dim=1) / there.sum(dim=1)
        return tokens.masked_fill(~there, -torch.inf).amax(dim=1)


class SensorTransformer(nn.Module):
    """Pulses of a sensor -> blocks of attention among them -> pooling -> norm: ``(D, d)``, in the sensors' order.

    The order of a sensor's pulses is nothing to it: time is a feature.

    Args:
        d_model: d.
        layers: blocks; 0 pools the embedded pulses.
        heads: of attention and pooling.
        pool: see `SensorPooling`.
        feedforward: width of a block's middle as a multiple of d.
        dropout: in the blocks.
        qk_norm: see `SelfAttention`.
        frequencies: see `FeatureEmbedding`.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(
        self,
        d_model: int = 128,
        layers: int = 4,
        heads: int = 8,
        pool: str = "attention",
        feedforward: float = 4.0,
        dropout: float = 0.0,
        qk_norm: bool = True,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        check_count(type(self).__name__, "layers", layers, 0)
        self.embedding = FeatureEmbedding(N_PULSE_FEATURES, d_model, frequencies)
        self.pooling = SensorPooling(d_model, heads, pool)
        self.blocks = nn.ModuleList(
            TransformerBlock(SizeClassAttention(d_model, heads, qk_norm, dropout), feedforward, dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, batch: Batch) -> Tensor:
        """One vector a sensor, ``(D, d)``."""
        rows, classes = size_classes(batch)
        tokens = self.embedding(batch["pulses"][rows])
        for block in self.blocks:
            tokens = block(tokens, classes)
        pooled = self.norm(self.pooling(tokens, classes))
        return torch.zeros_like(pooled).index_copy(0, batch["class_order"], pooled)
