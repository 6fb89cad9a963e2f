"""Blocks that more than one family builds its networks from."""

from stablelit.nn.attention import SelfAttention
from stablelit.nn.chunked_forward import chunked_forward, has_batch_norm
from stablelit.nn.rotary import RotaryEmbedding
from stablelit.nn.transformer_block import TransformerBlock

__all__ = ["RotaryEmbedding", "SelfAttention", "TransformerBlock", "chunked_forward", "has_batch_norm"]
