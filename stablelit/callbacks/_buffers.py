"""A module's buffers as they were before a batch, so that a batch that is skipped leaves no trace in them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

# elements; batch norm changes its statistics, one number a channel, without torch counting a change
_SMALL = 2**16


class BufferKeeper:
    """Copies buffers that may have changed since the last copy, and puts them back.

    Batch-norm statistics that a NaN has entered stay NaN for ever, whatever becomes of the optimizer step. Small
    buffers are copied every time, large ones (a table, a queue of negatives) where torch has counted a change in place.
    A buffer that holds infinities on purpose (a mask) is not looked at, but is put back like the others.

    Args:
        module: its buffers, those of its submodules too, that are there now.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        owners = [owner._buffers for owner in module.modules()]
        found = [(buffers, name, value) for buffers in owners for name, value in buffers.items() if value is not None]
        small = [_Place(buffers, name) for buffers, name, value in found if value.numel() <= _SMALL]
        self._large = [_Place(buffers, name) for buffers, name, value in found if value.numel() > _SMALL]
        self._small = small
        self._small_now: list[Any] = []
        self._small_copies: list[Tensor] = []
        self._watched: list[int] = []
        self.keep()
        self._watched = [i for i, copy in enumerate(self._small_copies) if _is_finite_number(copy)]
        for place in self._large:
            place.watched = _is_finite_number(place.copy)

    def keep(self) -> None:
        """Takes the present state as the one to go back to."""
        now: list[Any] = [place.buffers.get(place.name) for place in self._small]
        if len(now) == len(self._small_now) and all(map(operator.is_, now, self._small_now)):
            if now:
                with torch.no_grad():
                    torch._foreach_copy_(self._small_copies, now)
        else:  # the first time, and where a buffer is replaced and not filled
            self._small_now = now
            self._small_copies = [torch.empty(0) if value is None else value.detach().clone() for value in now]
        for place in self._large:
            value = place.changed()
            if value is not None:
                place.keep(value)

    def has_nonfinite(self) -> Tensor | None:
        """Whether a buffer that was finite is not any more, a 0-dim bool tensor; None where none has changed."""
        small = [self._small[i].buffers.get(self._small[i].name) for i in self._watched]
        large = [place.changed() for place in self._large if place.watched]
        flat = [value if value.dim() == 1 else value.reshape(-1) for value in (*small, *large) if value is not None]
        return ~torch.cat(flat).detach().isfinite().all() if flat else None

    def restore(self) -> None:
        """Goes back."""
        for place, copy in zip(self._small, self._small_copies, strict=True):
            place.put_back(copy)
        self._small_now = [place.buffers.get(place.name) for place in self._small]
        for place in self._large:
            if place.changed() is not None:
                place.put_back(place.copy)


class _Place:
    """Where a buffer is."""

    def __init__(self, buffers: dict[str, Tensor | None], name: str) -> None:
        self.buffers, self.name = buffers, name
        self.copy = torch.empty(0)
        self.watched = False
        self._seen = (0, -1)

    def changed(self) -> Tensor | None:
        """The buffer, if torch has counted a change since the copy or the restoration."""
        value = self.buffers.get(self.name)
        return value if value is not None and _version(value) != self._seen else None

    def keep(self, value: Tensor) -> None:
        """Copies it."""
        if _alike(value, self.copy):
            with torch.no_grad():
                self.copy.copy_(value)
        else:
            self.copy = value.detach().clone()
        self._seen = _version(value)

    def put_back(self, copy: Tensor) -> None:
        """Fills it with the copy, or puts another in its place where it has another form."""
        value = self.buffers.get(self.name)
        if value is None:
            return
        if _alike(value, copy):
            with torch.no_grad():
                value.copy_(copy)
        else:
            value = self.buffers[self.name] = copy.clone()
        self._seen = _version(value)


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device


def _version(value: Tensor) -> tuple[int, int]:
    return id(value), -2 if value.is_inference() else value._version


def _is_finite_number(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 0 and bool(value.isfinite().all())
