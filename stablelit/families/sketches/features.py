"""The output of a frozen encoder for many pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_AT_ONCE = 256


@torch.no_grad()
def encoded_images(encoder: nn.Module, images: Tensor) -> Tensor:
    """What the encoder makes of pictures ``(n, C, S, S)`` in evaluation mode, ``(n, d)`` float32, some at a time.

    Pictures go to where the encoder is, in its precision, and its output comes back to where they were. Its mode is put
    back.
    """
    where = next(encoder.parameters(), images)
    was_training = encoder.training
    encoder.eval()
    parts = [encoder(part.to(where)).flatten(1).float().to(images.device) for part in images.split(_AT_ONCE)]
    encoder.train(was_training)
    return torch.cat(parts)
