"""From a network's vector to direction, energy and kind of an event: small multilayer perceptrons.

The activation is a GELU and the last layer begins near zero: with a ReLU and PyTorch's own start, two thirds of the
hidden units can die at the first steps, and what is left of the network says "always up", at 88 degrees' mean error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablelit.functional.schedules import check_count, check_number

LAST_LAYER_STD = 0.01


def _perceptron(owner: str, width: int, hidden: int | None, outputs: int, dropout: float) -> nn.Sequential:
    check_count(owner, "width", width, 1)
    middle = width if hidden is None else check_count(owner, "hidden", hidden, 1)
    check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
    last = nn.Linear(middle, outputs)
    nn.init.normal_(last.weight, std=LAST_LAYER_STD)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, middle), nn.GELU(), nn.Dropout(dropout), last)


class DirectionHead(nn.Module):
    """f, ``(B, 3)``: towards the source is ``f / |f|``, and ``|f|`` is the concentration kappa.

    Args:
        width: of the network's vector.
        hidden: width of the layer between; `width` by default.
        dropout: after it.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, width: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = _perceptron(type(self).__name__, width, hidden, 3, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width)`` to ``(B, 3)``, float32 also under autocast."""
        return _in_float32(self.layers, x)


class EnergyHead(nn.Module):
    """log10 of the energy in GeV, ``(B,)``.

    Args:
        width: of the network's vector.
        hidden: width of the layer between; `width` by default.
        dropout: after it.
        start: what it says before training, the data's mean if it is known.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, width: int, hidden: int | None = None, dropout: float = 0.0, start: float = 0.0) -> None:
        super().__init__()
        owner = type(self).__name__
        self.layers = _perceptron(owner, width, hidden, 1, dropout)
        nn.init.constant_(self.layers[-1].bias, check_number(owner, "start", start))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width)`` to ``(B,)``, float32 also under autocast."""
        return _in_float32(self.layers, x).squeeze(-1)


class TrackHead(nn.Module):
    """The logit of an event being a track, ``(B,)``.

    Args:
        width: of the network's vector.
        hidden: width of the layer between; `width` by default.
        dropout: after it.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, width: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = _perceptron(type(self).__name__, width, hidden, 1, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width)`` to ``(B,)``, float32 also under autocast."""
        return _in_float32(self.layers, x).squeeze(-1)


def _in_float32(layers: nn.Sequential, x: Tensor) -> Tensor:
    # bf16 has steps of half a degree in a direction, and losses would never see the difference
    with torch.autocast(x.device.type, enabled=False):
        answer: Tensor = layers(x.float())
        return answer
