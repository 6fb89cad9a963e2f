"""The loss of every training batch, whoever steps the optimizers, without waiting for a device at each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence import Curve


class TrainingLosses:
    """Collects the loss of each optimizer step, the mean over the batches that it accumulates.

    Lightning divides the loss in a batch's outputs by `accumulate_grad_batches`; here it is multiplied back. In manual
    optimisation it is what `training_step` returns, else what `manual_backward` was called with, where that is once a
    batch. Where a batch has several backward passes (a generator against a discriminator) their losses have curves of
    their own, ``loss/0`` and ``loss/1``, since no trend of one of them means anything.
    """

    def __init__(self) -> None:
        self._backward: list[Tensor] = []
        self._window: list[list[Any]] = []
        self._waiting: list[tuple[int, list[Any]]] = []
        self.several = False

    def begin(self) -> None:
        """Training begins, or goes on."""
        self.__init__()  # type: ignore[misc]

    def backward(self, loss: Tensor) -> None:
        """A backward pass begins from this."""
        self._backward.append(loss.detach())

    def batch(self, outputs: Any, automatic: bool, accumulated: int, is_step: bool, step: int) -> None:
        """A batch is over.

        Args:
            outputs: as Lightning hands them to `on_train_batch_end`.
            automatic: whether Lightning steps the optimizers.
            accumulated: batches in a step.
            is_step: whether the optimizer has stepped.
            step: its number.
        """
        backward, self._backward = self._backward, []
        returned = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if automatic:
            # none where training_step returned None: no backward pass, no loss
            losses = [] if returned is None else [returned * accumulated if accumulated > 1 else returned]
        else:
            self.several = self.several or len(backward) > 1
            losses = list(backward) if self.several else [returned] if isinstance(returned, Tensor) else backward[:1]
        if losses:
            self._window.append([loss.detach() if isinstance(loss, Tensor) else loss for loss in losses])
        if is_step and self._window:
            longest = max(len(losses) for losses in self._window)
            columns = [[losses[i] for losses in self._window if i < len(losses)] for i in range(longest)]
            self._waiting.append((step, [sum(column) / len(column) for column in columns]))
            self._window = []

    @property
    def is_cheap(self) -> bool:
        """Whether reading costs no wait for a device."""
        return not self._waiting or not _on_device(self._waiting[-1][1][0])

    def flush(self, curves: dict[str, Curve]) -> None:
        """Adds what has come to the curves; one wait for the device."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        flat = [loss for _, losses in waiting for loss in losses]
        if any(_on_device(loss) for loss in flat):
            flat = torch.stack([torch.as_tensor(v).reshape(()).float().to(_device(flat)) for v in flat]).tolist()
        numbers = iter([float(value) for value in flat])
        for step, losses in waiting:
            for index in range(len(losses)):
                name = f"loss/{index}" if self.several else "loss"
                curves.setdefault(name, Curve()).add(step, next(numbers))


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type != "cpu"


def _device(values: list[Any]) -> torch.device:
    device: torch.device = next(value.device for value in values if _on_device(value))
    return device
