"""Whether gradients are cleared between two steps.

In automatic optimisation Lightning calls ``training_step``, then ``optimizer_zero_grad``, then backward: what is there
before the first backward pass after a step has not been cleared, whether the run accumulates or not. In manual
optimisation an optimizer's gradients have to be gone at some moment between two of its steps; they are looked at before
every backward pass, and where a batch begins and ends. A batch whose backward passes go unseen (``loss.backward()``)
tells nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.probes.parameters_census import optimizers_of
from stablelit.doctor.probes.tensors import dense_gradient, read_numbers

_LOOKS = 8


class Clearing:
    """Counts the looks in which gradients were left over, and those in which they had been cleared."""

    def __init__(self) -> None:
        self.left_over = 0
        self.cleared = 0
        self._automatic = True
        self._judging = False
        self._backwards = 0
        self._stepped_before: set[int] = set()
        self._stepped_now: set[int] = set()
        self._at_start: dict[int, float] = {}
        self._held: dict[int, list[Tensor]] = {}
        self._unmoved: set[int] = set()
        self._first_now: dict[int, float] = {}

    def batch_start(self, trainer: Any, automatic: bool) -> None:
        """What does the batch begin with?"""
        self._automatic = automatic
        self._stepped_before, self._stepped_now = self._stepped_now, set()
        self._judging = self.left_over + self.cleared < _LOOKS and bool(self._stepped_before)
        self._backwards = 0
        self._unmoved = set()
        if not self._judging:
            return
        self._held = {
            id(optimizer): [tensor for group in optimizer.param_groups for tensor in group["params"]]
            for optimizer in optimizers_of(trainer)
        }
        self._at_start = {} if automatic else {key: _size(tensors) for key, tensors in self._held.items()}

    def before_backward(self, trainer: Any) -> None:
        """The moment in which they have to be gone."""
        self._backwards += 1
        if not self._judging:
            return
        if self._automatic:
            if self._backwards == 1:
                self._count(any(_size(tensors) > 0 for key, tensors in self._held.items()))
            return
        for key in list(self._held):
            now = _size(self._held[key])
            if self._backwards == 1 and now > 0 and now == self._at_start[key]:
                self._unmoved.add(key)
            elif now == 0:
                self._unmoved.discard(key)

    def before_step(self, optimizer: Any) -> None:
        """An optimizer steps: on gradients that have never been cleared since its last step?"""
        key = id(getattr(optimizer, "optimizer", optimizer))
        again = key in self._stepped_now
        self._stepped_now.add(key)
        if self._judging and not self._automatic and self._backwards and not again and key in self._stepped_before:
            self._count(key in self._unmoved)

    def batch_end(self) -> None:
        """Nothing is kept of a batch's tensors."""
        self._held = {}

    def _count(self, left: bool) -> None:
        self.left_over += left
        self.cleared += not left


@torch.no_grad()
def _size(tensors: list[Tensor]) -> float:
    gradients = [gradient for tensor in tensors if (gradient := dense_gradient(tensor)) is not None]
    return math.sqrt(sum(size * size for size in read_numbers(torch._foreach_norm(gradients)))) if gradients else 0.0
