"""Whether the units of a layer are one and the same: equal rows that get equal gradients stay equal for ever.

A matrix that begins at zero on purpose (the last of a residual block, LoRA's B, a head) has unequal gradients from the
first step on, or, where something before it is zero too, from the second or third. One that began with equal rows that
are not zero has units that differ by their biases at most; nobody does that on purpose, and it is told as long as the
rows have hardly parted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stablelit.doctor.probes.parameters_census import Census
from stablelit.doctor.probes.tensors import dense_gradient

_LOOKS = 12
_LEAST_STEPS = 2
_MATRICES = 64
# rounding parts equal rows: of weights by so much of their root mean square, of gradients by so much of theirs
_EXACT = (1e-5, 1e-3)
# units that a constant made, and that only their biases tell apart
_NEARLY = (0.05, 0.5)


class Symmetry:
    """Looks at the weight matrices of a module in the first steps that move.

    Args:
        census: the parameters.
    """

    def __init__(self, census: Census) -> None:
        self._census = census
        owners = zip(census.held, (census.owners[i] for i in census.held), strict=True)
        kept = [i for i, owner in owners if not isinstance(owner, nn.Embedding | nn.EmbeddingBag)]
        self._candidates = [i for i in kept if census.tensors[i].ndim >= 2 and len(census.tensors[i]) > 1][:_MATRICES]
        self._born_equal: set[int] | None = None
        self.equal: list[int] = []
        self.steps = 0
        self.zero = False

    @torch.no_grad()
    def before_step(self) -> None:
        """Weights and gradients, as the optimizer takes them."""
        tensors = self._census.tensors
        if self._born_equal is None:
            self._candidates = [i for i in self._candidates if _is_born_equal(tensors[i])]
            self._born_equal = {i for i in self._candidates if bool(tensors[i].any())}
        if not self._candidates or self.steps > _LOOKS:
            return
        if self.steps >= _LEAST_STEPS:
            self._candidates = [i for i in self._candidates if self._is_equal(i)]
            self.equal = list(self._candidates)
            self.zero = bool(self.equal) and not any(bool(tensors[i].any()) for i in self.equal)

    def step_done(self, rate: float) -> None:
        """A step has been done."""
        self.steps += rate > 0

    def _is_equal(self, index: int) -> bool:
        weight = self._census.tensors[index]
        gradient = dense_gradient(weight)
        if gradient is None:
            return False
        rows, slopes = _parting(weight), _parting(gradient)
        if rows <= _EXACT[0] and slopes <= _EXACT[1]:
            return True
        born = self._born_equal is not None and index in self._born_equal
        return born and rows <= _NEARLY[0] and slopes <= _NEARLY[1]


def _parting(matrix: Tensor) -> float:
    """How far rows are from the first: largest difference over the root mean square; 0 where all is zero."""
    rows = matrix.detach().reshape(len(matrix), -1)
    apart = float((rows - rows[:1]).abs().amax())
    return apart / _size(rows) if apart > 0 else 0.0


def _is_born_equal(matrix: Tensor) -> bool:
    """Whether rows are equal up to rounding; the first two are asked before all, since those of nearly any differ."""
    rows = matrix.detach().reshape(len(matrix), -1)
    if float((rows[1] - rows[0]).abs().amax()) > _EXACT[0] * _size(rows):
        return False
    return _parting(matrix) <= _EXACT[0]


def _size(rows: Tensor) -> float:
    # no norm of doubles is taken in single precision, and none of halves should be in half
    precision = torch.promote_types(rows.dtype, torch.float32)
    return max(float(torch.linalg.vector_norm(rows, dtype=precision)) / math.sqrt(rows.numel()), 1e-38)
