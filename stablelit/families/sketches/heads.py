"""The heads behind an encoder: SimCLR's and BYOL's projector, and BYOL's predictor."""

from __future__ import annotations

from torch import nn

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count

_NORMS = ("batch", "layer", "none")


def mlp_head(in_dim: int, hidden: int, out_dim: int, norm: str = "batch", ends_in_relu: bool = False) -> nn.Sequential:
    """Linear, norm, ReLU, linear: ``(B, in_dim)`` to ``(B, out_dim)``.

    Without a norm an untrained convolutional encoder leaves all its outputs in one narrow cone, and a contrastive loss
    begins at chance. A ReLU at the end keeps embeddings in one octant: no cosine is below 0.

    Args:
        in_dim: width of the encoder's output.
        hidden: width between.
        out_dim: width of the embedding, at least 2.
        norm: "batch" (as in SimCLR and BYOL), "layer" or "none".
        ends_in_relu: a fault, for experiments with it.

    Raises:
        ConfigurationError: an argument outside its range.
    """
    for name, value, least in (("in_dim", in_dim, 1), ("hidden", hidden, 1), ("out_dim", out_dim, 2)):
        check_count("mlp_head", name, value, least)
    if norm not in _NORMS:
        raise bad_argument("mlp_head", "norm", norm, ", ".join(_NORMS))
    between = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}[norm](hidden)
    # a norm brings its own offset
    first = nn.Linear(in_dim, hidden, bias=norm == "none")
    return nn.Sequential(first, between, nn.ReLU(), nn.Linear(hidden, out_dim), *([nn.ReLU()] if ends_in_relu else []))
