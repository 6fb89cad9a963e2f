"""What a micro-batch has to know of the batch of all ranks and micro-batches that makes one optimizer step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.families.proteins.diffusion.time_sampling import sample_uniform
from stablelit.functional.permutation import mix


def uniform_of_step(trainer: Any, method: str, n: int, batch_idx: int, device: torch.device) -> Tensor:
    """A micro-batch's numbers in [0, 1), ``(n,)``, whose strata are those of the whole step; see `sample_uniform`.

    Args:
        trainer: that trains.
        method: of `TIME_SAMPLERS`.
        n: sequences of the micro-batch.
        batch_idx: which micro-batch of the epoch.
        device: where the numbers are wanted.
    """
    accumulated = max(1, int(trainer.accumulate_grad_batches))
    part = (batch_idx % accumulated) * trainer.world_size + trainer.global_rank
    # the same on all ranks, as the step is
    shift = mix(trainer.global_step, 0) / 2**64
    return sample_uniform(method, n, None, device, part, accumulated * trainer.world_size, shift)
