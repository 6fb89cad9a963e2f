"""Where a chosen threshold is written in a module: a float, a 0-dim buffer, or a buffer with one for each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.contracts import Scalar
from stablelit.errors import ContractError

DEFAULT_TARGET = "decision_threshold"


class ThresholdTarget:
    """Finds the place once; writing does not wait for the device.

    Args:
        pl_module: the module.
        path: where, as a dotted path; None takes `decision_threshold` where the module has it, and else writes nowhere.
        per_label: one number for each label instead of one for all.
        owner: for messages.

    Raises:
        ContractError: nothing at a path that was given, or not a place for numbers of this kind.
    """

    def __init__(self, pl_module: Any, path: str | None, per_label: bool, owner: str) -> None:
        self.path = path
        self._owner = owner
        self._scalar: Scalar | None = None
        self._module = pl_module
        if path is None:
            if not hasattr(pl_module, DEFAULT_TARGET):
                return
            self.path = DEFAULT_TARGET
        assert self.path is not None
        if not per_label:
            self._scalar = Scalar(pl_module, self.path, owner)
        elif not isinstance(self._find(), Tensor) or self._find().dim() != 1:
            raise ContractError(
                f"{owner}: average='per-label' writes a threshold for each label to {self.path}; allowed there: a "
                f"floating-point buffer of shape (L,), such as register_buffer({self.path!r}, torch.full((L,), 0.5))."
            )

    def write(self, thresholds: Sequence[float]) -> None:
        """Writes; a label without a threshold keeps what it has.

        Raises:
            ContractError: another number of labels than there are places.
        """
        if self.path is None:
            return
        if self._scalar is not None:
            if not math.isnan(thresholds[0]):
                self._scalar.set(thresholds[0])
            return
        there = self._find()
        if there.shape != (len(thresholds),):
            raise ContractError(
                f"{self._owner}: {type(self._module).__name__}.{self.path} has shape {tuple(there.shape)} and there "
                f"are {len(thresholds)} labels."
            )
        new = torch.tensor(thresholds, dtype=there.dtype, device=there.device)
        there.copy_(torch.where(new.isnan(), there, new))

    def _find(self) -> Any:
        found = self._module
        for part in str(self.path).split("."):
            if not hasattr(found, part):
                raise ContractError(f"{self._owner}: {type(self._module).__name__} has nothing at {self.path!r}.")
            found = getattr(found, part)
        return found
