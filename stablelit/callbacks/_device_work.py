"""Whether a device has something left to do."""

from __future__ import annotations

from collections.abc import Callable

import torch


def nobody_knows() -> bool | None:
    """The answer where the host computes."""
    return None


def stream_has_work(device: torch.device) -> Callable[[], bool | None]:
    """A question that a GPU answers at once: has its current stream something left to do? None on other devices."""
    return (lambda: not torch.cuda.current_stream(device).query()) if device.type == "cuda" else nobody_knows
