"""What was seen of weights, gradients and optimizers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ParameterFacts:
    """Facts about weights, gradients and optimizers."""
