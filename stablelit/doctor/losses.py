"""The loss of every training batch, whoever steps the optimizers, without waiting for a device at each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from stablelit.doctor.evidence import Curve

# an optimizer, and which of its backward passes in a batch
_Key = tuple[int, int]
_FIRST: _Key = (0, 0)


class TrainingLosses:
    """Collects the loss of each optimizer step, the mean over the batches that it accumulates.

    Lightning divides the loss in a batch's outputs by `accumulate_grad_batches`; here it is multiplied back. In manual
    optimisation it is what `training_step` returns, else what `manual_backward` was called with. Where different
    optimizers step after backward passes of their own (a generator against a discriminator, in one batch or in turns),
    or a batch has several passes, each has a curve of its own, ``loss/0`` and ``loss/1`` in the order in which they
    first came, and there is no ``loss``, since no trend of a mixture means anything.

    Attributes:
        is_finite: whether those that were read last are. One on the CPU is read as it comes.
    """

    def __init__(self) -> None:
        self._open: list[Tensor] = []
        self._passes: list[tuple[_Key, Tensor]] = []
        self._owner = 0
        self._window: list[list[tuple[_Key, Any]]] = []
        self._waiting: list[tuple[int, list[tuple[_Key, Any]]]] = []
        self._read_steps: list[float] = []
        self._read: list[float] = []
        self._slots: dict[_Key, int] = {}
        self.is_finite = True

    def backward(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """A backward pass of manual optimisation begins from this, multiplied by the scale of a gradient scaler."""
        if loss.numel() == 1:
            self._open.append(loss.detach() if scale is None else loss.detach() / scale)

    def optimizer_steps(self, index: int) -> None:
        """The optimizer of this index is about to step: the passes before were for it."""
        if self._open:
            self._owner = index
            self._close_passes()

    def batch(self, outputs: Any, automatic: bool, accumulated: int, is_step: bool, step: int, optimizers: int) -> None:
        """A batch is over.

        Args:
            outputs: as Lightning hands them to `on_train_batch_end`.
            automatic: whether Lightning steps the optimizers.
            accumulated: batches in a step.
            is_step: whether the optimizer has stepped.
            step: its number.
            optimizers: how many there are.
        """
        if automatic and accumulated == 1 and type(outputs) is dict and _is_plain(loss := outputs.get("loss")):
            # nearly every step of nearly every run
            if not self._slots:
                self._slots[_FIRST] = 0
            if not self._waiting and len(self._slots) == 1 and not _on_device(loss):
                value = loss.item()
                self.is_finite = math.isfinite(value)
                self._read_steps.append(step)
                self._read.append(value)
            else:
                self._waiting.append((step, [(_FIRST, loss.detach())]))
            return
        # a pass whose optimizer has not stepped is that of the optimizer that stepped last
        self._close_passes()
        passes, self._passes = self._passes, []
        returned = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        own = returned.detach() if _is_plain(returned) else None
        if automatic:
            # none where training_step returned None: no backward pass, no loss
            losses = [] if own is None else [(_FIRST, own * accumulated if accumulated > 1 else own)]
        elif own is not None and (optimizers <= 1 or not passes):
            losses = [(_FIRST, own)]
        else:
            losses = passes
        for key, _ in losses:
            self._slots.setdefault(key, len(self._slots))
        if losses:
            self._window.append(losses)
        if is_step and self._window:
            columns: dict[_Key, list[Any]] = {}
            for key, loss in (pair for losses in self._window for pair in losses):
                columns.setdefault(key, []).append(loss)
            self._waiting.append((step, [(key, sum(column) / len(column)) for key, column in columns.items()]))
            self._window = []

    def flush(self, curves: dict[str, Curve]) -> None:
        """Adds what has come to the curves; one wait for the device."""
        if self._read:
            curves.setdefault("loss", Curve()).extend(self._read_steps, self._read)
            self._read_steps, self._read = [], []
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        flat = [loss for _, losses in waiting for _, loss in losses]
        if any(_on_device(loss) for loss in flat):
            flat = torch.stack([torch.as_tensor(v).reshape(()).float().to(_device(flat)) for v in flat]).tolist()
        numbers = [float(value) for value in flat]
        self.is_finite = all(map(math.isfinite, numbers))
        left = iter(numbers)
        several = len(self._slots) > 1
        if several and "loss" in curves:
            curves["loss/0"] = curves.pop("loss")
        for step, losses in waiting:
            for key, _ in losses:
                name = f"loss/{self._slots[key]}" if several else "loss"
                if name not in curves:
                    curves[name] = Curve()
                curves[name].add(step, next(left))

    def state_dict(self) -> dict[str, Any]:
        """Which pass has which curve."""
        return {"slots": [list(key) for key in self._slots]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self._slots = {(owner, order): slot for slot, (owner, order) in enumerate(state["slots"])}

    def _close_passes(self) -> None:
        for loss in self._open:
            order = sum(owner == self._owner for (owner, _), _ in self._passes)
            self._passes.append(((self._owner, order), loss))
        self._open = []


def _is_plain(loss: Any) -> TypeGuard[Tensor]:
    return isinstance(loss, Tensor) and loss.numel() == 1


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_cpu


def _device(values: list[Any]) -> torch.device:
    device: torch.device = next(value.device for value in values if _on_device(value))
    return device
