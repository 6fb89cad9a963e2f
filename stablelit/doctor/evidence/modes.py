"""What was seen of training and evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ModeFacts:
    """Facts about training and evaluation mode."""
