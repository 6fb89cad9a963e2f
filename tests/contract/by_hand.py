"""What two callbacks train where they are meant to train otherwise than with one optimizer or one whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tests.contract import modules
from tests.contract.cells import EPOCHS, RATE, batches_of, made


def clipped_one_by_one() -> dict[str, torch.Tensor]:
    """AdaptiveGradClip with two optimizers: each part to the tenth percentile of all its own norms so far."""
    module = made(modules.NAMES[0], "several")
    norms: dict[Any, list[float]] = {module.encoder: [], module.decoder: []}
    for x in _batches(modules.BATCH_SIZE):
        recon, kl_per_dim = module.terms(x)
        module.zero_grad()
        (recon + kl_per_dim.sum(-1)).mean().backward()
        for part, before in norms.items():
            norm = float(torch.cat([p.grad.flatten() for p in part.parameters()]).norm())
            before.append(norm)
            share = min(1.0, float(np.percentile(before, 10)) / norm)
            _step(part, lambda p, share=share: share * p.grad)
    return dict(module.named_parameters())


def floored_half_by_half(weights: list[float], free_bits: float) -> dict[str, torch.Tensor]:
    """Free bits with accumulation: each half of a batch has a mean of its own, which its floor is held against."""
    module = made(modules.NAMES[0], "automatic")
    for x, weight in zip(_batches(modules.BATCH_SIZE), weights, strict=True):
        module.zero_grad()
        for half in x.chunk(2):
            recon, kl_per_dim = module.terms(half)
            penalty = kl_per_dim.mean(0).clamp_min(free_bits).sum()
            (0.5 * (recon.mean() + weight * penalty)).backward()
        _step(module, lambda p: p.grad)
    return dict(module.named_parameters())


def _batches(size: int) -> Iterator[torch.Tensor]:
    loader = batches_of(size)
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        yield from (x for (x,) in loader)


def _step(part: Any, move: Callable[[Any], torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter in part.parameters():
            parameter -= RATE * move(parameter)
