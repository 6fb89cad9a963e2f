"""What was seen of what the loss is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class OperationFacts:
    """Facts about what the loss is made of."""
