"""The encoder that has learned nothing: what a trained one is to be held against."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stablelit.errors import ContractError

TWIN_SEED = 20_241_002


@torch.no_grad()
def untrained_twin(encoder: nn.Module, seed: int = TWIN_SEED, images: Tensor | None = None) -> nn.Module:
    """A copy of an encoder with its layers as they are made, in evaluation mode; no global random state moves.

    Args:
        encoder: whose layers have `reset_parameters`, as torch's have.
        seed: of its weights.
        images: ``(n, C, S, S)``, which its batch norms take their statistics from; without them they have none, and
            an untrained encoder looks worse than it is.

    Raises:
        ContractError: parameters of the encoder's own that nothing resets, which would stay trained.
    """
    twin = copy.deepcopy(encoder).requires_grad_(False)
    devices = [p.device for p in twin.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for name, layer in twin.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise ContractError(
                    f"{type(encoder).__name__}: its part {name or type(layer).__name__!r} has parameters and no "
                    f"reset_parameters(), so that there is no untrained twin to compare with. Give it that method."
                )
    norms = [layer for layer in twin.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if images is not None and norms:
        where = next(twin.parameters()).device
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            # the mean over batches
            norm.momentum = None
        twin.train()
        for part in images.split(256):
            if len(part) > 1:
                twin(part.to(where))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return twin.eval()
