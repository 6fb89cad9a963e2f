"""Whether what the last layer says depends on what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stablelit.doctor.probes.hooks import harmless
from stablelit.doctor.probes.tensors import rows_differ

_ROWS = 1024
_COLUMNS = 256
_LEAST_ROWS = 4
CONSTANT = 1e-4
_COUNTED = ("name", "looks", "constant_looks", "constant_since", "steps", "spread")


class OutputSpread:
    r"""Measures the output of one module over a batch.

    .. math:: \text{spread} = \sqrt{\langle (y - \bar y)^2 \rangle / \langle y^2 \rangle}

    with the mean over samples (and positions) for each output; 0 where all outputs are 0.
    """

    def __init__(self) -> None:
        self.name = ""
        self._module: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._output: Tensor | None = None
        self._varies = False
        self.looks = 0
        self.constant_looks = 0
        self.constant_since = 0
        self.steps = 0
        self.spread: float | None = None

    def choose(self, module: nn.Module, name: str) -> None:
        """The module whose output counts."""
        if module is not self._module:
            goes_on = self._module is None and name == self.name
            self._module, self.name = module, name
            if not goes_on:
                self.looks = self.constant_looks = self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """What was counted, of the module of this name."""
        return {name: getattr(self, name) for name in _COUNTED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        for name in _COUNTED:
            setattr(self, name, state[name])

    def watch(self, batch: Any) -> None:
        """Hangs a hook on it."""
        self.unwatch()
        rows = _first_tensor(batch)
        if self._module is None or rows is None or len(rows) < _LEAST_ROWS:
            return
        flat = rows.detach()[:_ROWS].reshape(min(len(rows), _ROWS), -1)
        self._varies = rows_differ(flat[:, :: max(1, flat.shape[1] // _COLUMNS)])
        self._handle = self._module.register_forward_hook(harmless(self._note))

    def unwatch(self) -> None:
        """Takes it away."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._output, self._varies = None, None, False

    @torch.no_grad()
    def take(self, step: int) -> None:
        """At the end of a look."""
        output, varies = self._output, self._varies
        self.unwatch()
        if output is None or not varies:
            return
        rows = output.reshape(len(output), -1) if output.ndim > 3 else output.reshape(-1, output.shape[-1])
        rows = rows[:_ROWS, :: max(1, rows.shape[1] // _COLUMNS)].float()
        if len(rows) < _LEAST_ROWS or rows.numel() == 0:
            return
        about_mean = (rows - rows.mean(0)).square().mean()
        spread, size = torch.stack([about_mean, rows.square().mean()]).sqrt().tolist()
        if not size < float("inf"):
            return
        self.looks += 1
        self.spread = spread / size if size > 0 else 0.0
        if self.spread > CONSTANT:
            self.constant_looks = self.steps = 0
            return
        if self.constant_looks == 0:
            self.constant_since = step
        self.constant_looks += 1
        self.steps = step - self.constant_since

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor) and first.ndim >= 2 and first.is_floating_point():
            self._output = first.detach()


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim else None
    if isinstance(batch, Mapping):
        parts = list(batch.values())
    elif isinstance(batch, tuple | list):
        parts = list(batch)
    else:
        parts = [getattr(batch, "x", None)]
    return next((found for part in parts if part is not None and (found := _first_tensor(part)) is not None), None)
