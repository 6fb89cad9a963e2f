"""Whether parameters move: a sample of each, compared with what it was at the first look.

Both are taken right after a backward pass. There a weight that something overwrites in every step (a buffer copied
back, a constraint) is what it was, though the optimizer has moved it in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.doctor.probes.tensors import dense_gradient, sample

_NUMBERS = 256
# a temperature that is clamped at its limit stands still on purpose; weights do not
_LEAST_NUMBERS = 16
_FEW = 0.05


class Motion:
    """Which numbers have had a gradient, and which have moved.

    Args:
        tensors: to watch, at least one.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        lengths = [len(part) for part in sample(tensors, _NUMBERS)]
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self._owner = np.repeat(np.arange(len(tensors)), lengths)
        self._large = np.array([tensor.numel() >= _LEAST_NUMBERS for tensor in tensors], dtype=bool)
        self._reference: Tensor | None = None
        self._number_moved = np.zeros(sum(lengths), dtype=bool)
        self._number_graded = np.zeros(sum(lengths), dtype=bool)
        self._zero = np.zeros(sum(lengths), dtype=bool)
        self.moved = np.zeros(len(tensors), dtype=bool)
        self.graded = np.zeros(len(tensors), dtype=bool)

    @property
    def seen(self) -> bool:
        """Whether there is something to compare with."""
        return self._reference is not None

    @property
    def still(self) -> list[int]:
        """Indices of tensors that have gradients, and of which no number has moved."""
        return [int(i) for i in np.flatnonzero(self.graded & ~self.moved & self._large)]

    def still_share(self, chosen: list[int]) -> float:
        """Of the sampled numbers of these tensors that have a gradient, those that have not moved.

        Those that are zero are left out: a mask may hold them there.
        """
        member = np.zeros(len(self._tensors), dtype=bool)
        member[chosen] = True
        counted = self._number_graded & member[self._owner] & ~self._zero
        return float((counted & ~self._number_moved).sum() / counted.sum()) if counted.any() else 0.0

    @property
    def settled(self) -> bool:
        """Whether all tensors have had a gradient and have moved, and nearly all numbers: another look adds nothing."""
        if not (self.moved.all() and self.graded.all()):
            return False
        still = self._number_graded & ~self._number_moved & ~self._zero
        return int(np.count_nonzero(still)) < _FEW * int(np.count_nonzero(self._number_graded))

    @torch.no_grad()
    def changed(self) -> NDArray[Any]:
        """Per tensor, whether it is another than at the first look: in this moment, and not remembered."""
        return np.asarray(np.logical_or.reduceat(self._differs(_sampled(self._tensors)), self._starts))

    @torch.no_grad()
    def look(self) -> None:
        """Right after a backward pass."""
        if not self._tensors:
            return
        now = _sampled(self._tensors)
        if self._reference is None:
            self._reference = now
        else:
            self._number_moved |= self._differs(now)
            self._zero = _flags(now == 0)
        slopes = _sampled([self._gradient(tensor) for tensor in self._tensors])
        self._number_graded |= _flags((slopes != 0) & torch.isfinite(slopes))
        self.moved = np.logical_or.reduceat(self._number_moved, self._starts)
        self.graded = np.logical_or.reduceat(self._number_graded, self._starts)

    def _differs(self, now: Tensor) -> NDArray[Any]:
        assert self._reference is not None
        return _flags(now != self._reference)

    @staticmethod
    def _gradient(tensor: Tensor) -> Tensor:
        gradient = dense_gradient(tensor)
        # as many numbers, of which none is kept
        return tensor.new_zeros(()).expand(tensor.shape) if gradient is None else gradient


def _sampled(tensors: list[Tensor]) -> Tensor:
    """The sampled numbers of all, a copy, in one tensor, so that few operations ask for all."""
    numbers = sample(tensors, _NUMBERS)
    if len({part.device for part in numbers}) > 1:
        numbers = [part.cpu() for part in numbers]
    return torch.cat(numbers)


def _flags(flags: Tensor) -> NDArray[Any]:
    return np.asarray(flags.cpu().numpy())
