"""What was seen of activations, norms and what passes between layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LayerFacts:
    """Facts about activations, norms and what passes between layers."""
