"""What a listener is told about the gradients of one optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

ClipKind = Literal["norm", "value", "adaptive", "custom"]


@dataclass(frozen=True, eq=False)
class ClipEvent:
    """What became of the gradients of one optimizer step.

    Args:
        optimizer: the torch optimizer.
        index: its place in `trainer.optimizers`.
        norm: before the first clip that the tap saw, without a scaler's factor; shape (), float32.
        gradients: how many parameters had a gradient; with 0 the norm is 0 and says nothing.
        max_norm: the clip's threshold in the units of `norm`; None where there is none or nobody knows it.
        coefficient: what the gradients were multiplied with, shape (); None for `value`, and where nothing clips. For
            `custom`, and for an adaptive clip by layers, it is the norm after over the norm before.
        kind: who clips: Lightning by `norm` or by `value`, an `adaptive` clip of ours, the module's own
            `configure_gradient_clipping` (`custom`); None where nobody does.
        clipped_share: of `value`, the share of elements that it changed; every tenth step, else None.
        own_norm: the norm that a clip by norm worked with, in its own precision and with the scaler's factor.
        scaled: whether the clip worked on gradients that still carried the scaler's factor.
    """

    optimizer: Any
    index: int
    norm: Tensor
    gradients: int = 0
    max_norm: float | Tensor | None = None
    coefficient: Tensor | None = None
    kind: ClipKind | None = None
    clipped_share: Tensor | None = None
    own_norm: Tensor | None = None
    scaled: bool = False

    @property
    def clipped(self) -> Tensor | None:
        """Whether the clip made the gradients smaller, a 0-dim bool tensor; None where that is no question."""
        if self.max_norm is not None:
            return self.norm > self.max_norm
        return None if self.coefficient is None else self.coefficient < 1.0
