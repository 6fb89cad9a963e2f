"""What was seen of inputs, labels and rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BatchFacts:
    """Facts about inputs, labels and rows."""
