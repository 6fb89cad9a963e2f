"""What every rank has of something, for checkpoints that rank zero writes for all."""

from __future__ import annotations

from typing import Any

import torch


def gather_from_ranks(trainer: Any, mine: Any) -> list[Any]:
    """Plain data of all ranks in the order of their numbers; every rank must call it."""
    everything = [mine]
    if trainer.world_size > 1:
        everything = [None] * trainer.world_size
        torch.distributed.all_gather_object(everything, mine)
    return everything
