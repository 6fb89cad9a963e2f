"""What the metrics of families share: states that ranks sum, exact whatever precision a model is trained in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class SummedMetric(Metric):
    """Base: states are float64 sums and int64 counts, which add up over batches and ranks."""

    full_state_update = False
    is_differentiable = False

    def add_sum(self, name: str, size: int | None = None) -> None:
        """A float64 sum, of `size` numbers or one."""
        self._add(name, size, torch.float64)

    def add_count(self, name: str, size: int | None = None) -> None:
        """An int64 count, of `size` numbers or one."""
        self._add(name, size, torch.long)

    def _add(self, name: str, size: int | None, dtype: torch.dtype) -> None:
        shape = () if size is None else (size,)
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> SummedMetric:
        # module.to(bfloat16), which is how a model is trained in bf16 alone, takes the states of torchmetrics with it
        super()._apply(fn, exclude_state)
        for name, default in list(self._defaults.items()):
            if isinstance(default, Tensor) and default.is_floating_point():
                self._defaults[name] = default.double()
                setattr(self, name, getattr(self, name).double())
        return self
