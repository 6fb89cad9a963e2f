"""A module's buffers as they were before a batch, so that a batch that is skipped leaves no trace in them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class BufferKeeper:
    """Copies buffers that have changed since the last copy, and puts them back.

    Batch-norm statistics that a NaN has entered stay NaN for ever, whatever becomes of the optimizer step. A table or a
    mask that never changes is copied once. A buffer that holds infinities on purpose (a mask) is not looked at, but is
    put back like the others. A change through `.data` is not noticed: that is how weight averaging swaps models.

    Args:
        module: its buffers, those of its submodules too, that are there now.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        owners = [owner._buffers for owner in module.modules()]
        self._places = [(buffers, name) for buffers in owners for name, value in buffers.items() if value is not None]
        self._copies: list[Tensor] = [torch.empty(0)] * len(self._places)
        self._seen: list[tuple[int, int]] = [(0, -1)] * len(self._places)
        self.keep()
        self._watched = {i for i, copy in enumerate(self._copies) if _is_finite_number(copy)}

    def keep(self) -> None:
        """Takes the present state as the one to go back to."""
        into, values = [], []
        for place, value in self._changed():
            copy = self._copies[place]
            if copy.shape == value.shape and copy.dtype == value.dtype and copy.device == value.device:
                into.append(copy)
                values.append(value.detach())
            else:
                self._copies[place] = value.detach().clone()
            self._seen[place] = _version(value)
        if into:
            torch._foreach_copy_(into, values)

    def has_nonfinite(self) -> Tensor | None:
        """Whether a buffer that was finite is not any more, a 0-dim bool tensor; None where none has changed."""
        values = [value.detach() for place, value in self._changed() if place in self._watched and value.numel()]
        if not values:
            return None
        # the largest absolute value is NaN or infinite where any is
        return ~torch.stack([norm.float() for norm in torch._foreach_norm(values, torch.inf)]).isfinite().all()

    def restore(self) -> None:
        """Goes back."""
        with torch.no_grad():
            for place, value in self._changed():
                buffers, name = self._places[place]
                copy = self._copies[place]
                if value.shape == copy.shape and value.dtype == copy.dtype:
                    value.copy_(copy)
                else:
                    value = buffers[name] = copy.clone()
                self._seen[place] = _version(value)

    def _changed(self) -> list[tuple[int, Tensor]]:
        found: list[tuple[int, Tensor]] = []
        for place, (buffers, name) in enumerate(self._places):
            value: Any = buffers.get(name)
            if value is not None and _version(value) != self._seen[place]:
                found.append((place, value))
        return found


def _version(value: Tensor) -> tuple[int, int]:
    # an inference tensor does not count its changes: -1 never equals what it is compared with
    return id(value), value._version if not value.is_inference() else -2


def _is_finite_number(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 0 and bool(value.isfinite().all())
