"""The encoder of sketches: four small convolutions, which is what few-shot papers compare by."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional.schedules import check_count

Norm = Literal["batch", "group", "none"]
Out = Literal["mean", "flatten"]
_OWNER = "SketchCNN"
_GROUPS = 8


class SketchCNN(nn.Module):
    """Blocks of a 3x3 convolution, a norm, ReLU and 2x2 max pooling: "Conv4" with four of them.

    Without a norm an untrained network of this kind maps every picture to nearly one direction (a cosine of .999
    between any two), and contrastive training begins at chance: `norm="none"` is there to show it.

    Args:
        in_channels: C.
        width: channels of every block.
        n_blocks: blocks; pictures must have ``2 ** n_blocks`` pixels to a side or more.
        norm: "batch"; "group" (8 groups, or as many as divide the width), which looks at no other picture; "none".
        out: "mean" over the last map, or "flatten", which keeps where things are: at 32 pixels 4 times the width.

    Attributes:
        feature_dim: the width d of the output; None for "flatten", whose width depends on the pictures
            (:func:`feature_width` tries it).

    Raises:
        ConfigurationError: an argument outside its range.

    Source: O. Vinyals et al., NeurIPS 2016 (matching networks), section 4.1.

    Example:
        >>> SketchCNN(width=16)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self, in_channels: int = 1, width: int = 64, n_blocks: int = 4, norm: Norm = "batch", out: Out = "mean"
    ) -> None:
        super().__init__()
        channels = check_count(_OWNER, "in_channels", in_channels, 1)
        width = check_count(_OWNER, "width", width, 1)
        n_blocks = check_count(_OWNER, "n_blocks", n_blocks, 1)
        for name, value, allowed in (("norm", norm, get_args(Norm)), ("out", out, get_args(Out))):
            if value not in allowed:
                raise bad_argument(_OWNER, name, value, ", ".join(allowed), did_you_mean(str(value), allowed))
        blocks = []
        for _ in range(n_blocks):
            blocks += [nn.Conv2d(channels, width, 3, padding=1), _norm(norm, width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.out = out
        self.feature_dim = width if out == "mean" else None

    def forward(self, image: Tensor) -> Tensor:
        """Features of pictures ``(B, C, S, S)``, ``(B, d)``."""
        maps = self.blocks(image)
        return maps.mean((2, 3)) if self.out == "mean" else maps.flatten(1)


def feature_width(encoder: nn.Module, image_size: int, in_channels: int = 1) -> int:
    """The width d of what an encoder makes of pictures, found by trying it on two empty ones.

    The encoder is left as it was: it is tried in evaluation mode and without gradients.

    Args:
        encoder: ``(B, C, S, S) -> (B, d)``, or ``(B, d, 1, 1)``.
        image_size: S.
        in_channels: C.

    Raises:
        ConfigurationError: it does not take such pictures, or gives something else; the message names the encoder.
    """
    name = type(encoder).__name__
    size = check_count(name, "image_size", image_size, 1)
    channels = check_count(name, "in_channels", in_channels, 1)
    there = next((p for p in (*encoder.parameters(), *encoder.buffers())), torch.empty(0))
    dtype = there.dtype if there.is_floating_point() else torch.float32
    empty = torch.zeros(2, channels, size, size, device=there.device, dtype=dtype)
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            features = encoder(empty)
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigurationError(
            f"The encoder {name} does not take pictures of shape {tuple(empty.shape)}: {first} Give it image_size and "
            f"in_channels that fit, or another encoder."
        ) from error
    finally:
        for module, was_training in modes:
            module.training = was_training
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or len(shape) not in (2, 4) or shape[0] != 2 or set(shape[2:]) - {1}:
        raise ConfigurationError(
            f"The encoder {name} gives {shape} for two pictures of {channels} x {size} x {size}; allowed: (2, d) or "
            f"(2, d, 1, 1). Pool its map, or take its head off."
        )
    return int(features.shape[1])


def _norm(norm: str, width: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "group":
        return nn.GroupNorm(next(groups for groups in range(_GROUPS, 0, -1) if width % groups == 0), width)
    return nn.Identity()
