"""What is looked at before every optimizer step, on all ranks together, with one wait for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._buffers import BufferKeeper
from stablelit.callbacks._two_lightnings import inner_optimizer


@dataclass(frozen=True)
class StepHealth:
    """Of one optimizer step, the same on every rank.

    Args:
        loss: the mean over ranks and accumulated batches where it was finite; None where nobody knows one.
        bad_loss: the loss of a batch was not finite, on any rank.
        bad_gradient: the norm of the gradients is not finite.
        bad_buffer: a buffer that was finite is not any more.
    """

    loss: float | None
    bad_loss: bool
    bad_gradient: bool
    bad_buffer: bool

    @property
    def quantity(self) -> str | None:
        """What is not finite, that which comes first in a step first; None where all is well."""
        bad = {"loss": self.bad_loss, "gradient": self.bad_gradient, "buffer": self.bad_buffer}
        return next((name for name, it_is in bad.items() if it_is), None)


class StepMeter:
    """Adds up the losses of a step where `backward` begins with them, and reads them where the step is decided.

    The loss that `on_before_backward` hands out is divided by `accumulate_grad_batches` and multiplied by the scaler's
    factor: both are undone here.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._last: Tensor | None = None
        self._count = 0
        self._is_read = False

    def add(self, trainer: Any, loss: Tensor) -> None:
        """A backward pass is about to begin from `loss`."""
        loss = loss.detach().float()
        scaler = gradient_scaler(trainer)
        if scaler is not None and scaler._scale is not None:
            loss = loss / scaler._scale
        if self._is_read:  # not before: two optimizers may step after one backward pass
            self._loss, self._count, self._is_read = None, 0, False
        self._last = loss
        self._loss = loss if self._loss is None else self._loss + loss
        self._count += 1

    def read(self, trainer: Any, norm: Tensor, buffers: BufferKeeper) -> StepHealth:
        """What the ranks have together; the next loss begins a new step. One small reduction, one wait."""
        loss, count, self._is_read = self._loss, self._count, True
        bad_buffer = buffers.has_nonfinite()
        nothing = norm.new_zeros(())
        parts = [nothing if part is None else part.reshape(()).float() for part in (loss, norm, bad_buffer)]
        mine = torch.stack(parts)
        # a sum is not finite where one of its terms is not, so that a sum is all that the ranks need
        ours = trainer.strategy.reduce(mine, reduce_op="sum") if trainer.world_size > 1 else mine
        total, norms, bad_buffers = ours.tolist()
        # automatic optimisation divides by the number of batches that a whole window has
        whole = trainer.accumulate_grad_batches if trainer.lightning_module.automatic_optimization else 1
        mean = total * whole / count / trainer.world_size if count and math.isfinite(total) else None
        return StepHealth(mean, not math.isfinite(total), not math.isfinite(norms), bad_buffers > 0)

    def last_was_bad(self) -> bool:
        """Whether this rank's last batch had a loss that is not finite; waits for the device."""
        return self._last is not None and not bool(self._last.isfinite())


def gradient_scaler(trainer: Any) -> Any:
    """The gradient scaler that is at work; None where there is none."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def scale_left(trainer: Any, optimizer: Any) -> Tensor | None:
    """The scaler's factor that an optimizer's gradients still carry, shape (); None where they carry none."""
    scaler = gradient_scaler(trainer)
    if scaler is None or scaler._scale is None:
        return None
    # private to torch, and the only place that says whether `unscale_` was called
    stage = scaler._per_optimizer_states.get(id(inner_optimizer(optimizer)), {}).get("stage")
    scale: Tensor = scaler._scale
    return scale if stage is None or stage.name == "READY" else None


def drop_gradients(optimizer: Any, still_scaled: bool) -> None:
    """Makes the optimizer's step change nothing.

    Without a gradient a parameter is left out of the step. Zeros would not do: momentum and weight decay go on.

    Args:
        optimizer: about to step.
        still_scaled: whether it takes the scaler's factor off itself (a fused one). Then the scaler looks for
            infinities when it steps, and must find gradients; it finds infinite ones, and leaves the step out.
    """
    parameters: Iterable[Tensor] = (p for group in optimizer.param_groups for p in group["params"])
    for parameter in parameters:
        if parameter.grad is not None:
            if still_scaled:
                parameter.grad.fill_(torch.inf)
            else:
                parameter.grad = None
