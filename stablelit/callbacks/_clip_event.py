"""What a listener is told about the gradients of one optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from stablelit.functional.gradients import clip_coefficient

ClipKind = Literal["norm", "value", "adaptive", "custom"]


# not frozen: that triples the time that it takes to make one, in every step
@dataclass(eq=False, slots=True)
class ClipEvent:
    """What became of the gradients of one optimizer step.

    Args:
        optimizer: the torch optimizer.
        index: its place in `trainer.optimizers`.
        norm: before the first clip that the tap saw, without a scaler's factor; shape (), float32.
        gradients: whether any parameter had a gradient; if not, the norm is 0 and says nothing.
        max_norm: the clip's threshold in the units of `norm`; None where there is none or nobody knows it.
        factor: what the gradients were multiplied with where it does not follow from `own_norm` and `own_max_norm`.
        kind: who clips: Lightning by `norm` or by `value`, an `adaptive` clip of ours, the module's own
            `configure_gradient_clipping` (`custom`); None where nobody does.
        clipped_share: of `value`, the share of elements that it changed; every tenth step, else None.
        own_norm: the norm that a clip by norm worked with, in its own precision and with the scaler's factor.
        own_max_norm: the threshold it was given.
        scaled: whether the clip worked on gradients that still carried the scaler's factor.
    """

    optimizer: Any
    index: int
    norm: Tensor
    gradients: bool = False
    max_norm: float | Tensor | None = None
    factor: Tensor | None = None
    kind: ClipKind | None = None
    clipped_share: Tensor | None = None
    own_norm: Tensor | None = None
    own_max_norm: float | None = None
    scaled: bool = False

    @property
    def coefficient(self) -> Tensor | None:
        """What the gradients were multiplied with, shape (); None for `value`, and where nothing clips.

        For `custom`, and for an adaptive clip by layers, it is the norm after over the norm before.
        """
        if self.factor is None and self.own_norm is not None and self.own_max_norm is not None:
            return clip_coefficient(self.own_norm, self.own_max_norm).float()
        return self.factor

    @property
    def clipped(self) -> Tensor | None:
        """Whether the clip made the gradients smaller, a 0-dim bool tensor; None where that is no question."""
        if self.max_norm is not None:
            return self.norm > self.max_norm
        return None if self.factor is None else self.factor < 1.0
