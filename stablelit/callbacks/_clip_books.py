"""From the tap's events to the books of an epoch and of the run, with one read of the device for many steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stablelit.callbacks._clip_event import ClipEvent
from stablelit.callbacks._gradient_history import GradientHistory
from stablelit.functional.gradient_record import GradientRecord

_MOST = 1024


class ClipBooks:
    """Of each optimizer the epoch's :class:`GradientRecord` and the run's :class:`GradientHistory`.

    They are filled from events whose tensors are read together.

    Args:
        capacity: norms that a record keeps.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.records: dict[int, GradientRecord] = {}
        self.run: dict[int, GradientHistory] = {}
        self.last: dict[int, tuple[ClipEvent, float, float | None]] = {}
        # a gradient scaler skips steps that are not finite
        self.scaled = False
        self._waiting: list[tuple[int, ClipEvent]] = []

    def hear(self, event: ClipEvent, step: int) -> None:
        """Takes the event of a step; reads the device only when very many wait."""
        if event.gradients:
            self._waiting.append((step, event))
            if len(self._waiting) >= _MOST:
                self.read()

    def read(self) -> None:
        """Enters what waits into the books; waits for the device."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        numbers = iter(_read([t for _, event in waiting for t in _tensors(event)]))
        for step, event in waiting:
            norm, coefficient, own, share, max_norm = (
                next(numbers) if isinstance(value, Tensor) else value for value in _fields(event)
            )
            if event.factor is None and event.own_max_norm is not None:
                coefficient = min(1.0, event.own_max_norm / ((norm if own is None else own) + 1e-6))
            clipped = None
            if max_norm is not None:
                # as torch compares a float32 tensor with a number
                clipped = norm > float(np.float32(max_norm))
            elif coefficient is not None:
                clipped = coefficient < 1.0
            overflowed = own is not None and math.isinf(own) and math.isfinite(norm)
            if event.index not in self.records:
                self.records[event.index] = GradientRecord(self.capacity)
            record = self.records[event.index]
            record.add(norm, coefficient, clipped, share, overflowed)
            fixed = event.kind == "norm" and isinstance(event.max_norm, int | float)
            record.max_norm = float(event.max_norm) if fixed else None  # type: ignore[arg-type]
            self.last[event.index] = (event, norm, coefficient)
            if event.index not in self.run:
                self.run[event.index] = GradientHistory()
            counts = clipped if coefficient is not None else None
            self.run[event.index].add(step, norm, counts, max_norm, self.scaled)

    def begin(self) -> None:
        """A new epoch."""
        self.records, self._waiting = {}, []

    def begin_run(self) -> None:
        """A new run."""
        self.begin()
        self.run, self.last = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The books of the epoch as plain numbers; waits for the device."""
        self.read()
        return {str(index): record.state_dict() for index, record in self.records.items()}

    def run_state_dict(self) -> dict[str, Any]:
        """The books of the run as plain numbers; waits for the device."""
        self.read()
        return {str(index): history.state_dict() for index, history in self.run.items()}

    def load_state_dict(self, epoch: dict[str, Any], run: dict[str, Any]) -> None:
        """Takes up books that an earlier run kept, of the epoch that goes on and of the run so far."""
        self.begin_run()
        for index, saved in epoch.items():
            self.records[int(index)] = GradientRecord(self.capacity)
            self.records[int(index)].load_state_dict(saved)
        for index, saved in run.items():
            self.run[int(index)] = GradientHistory()
            self.run[int(index)].load_state_dict(saved)


def _fields(event: ClipEvent) -> tuple[Any, ...]:
    # the clip's own norm is worth a read only where it is another number
    own = event.own_norm if event.own_norm is not event.norm else None
    return event.norm, event.factor, own, event.clipped_share, event.max_norm


def _tensors(event: ClipEvent) -> list[Tensor]:
    return [value for value in _fields(event) if isinstance(value, Tensor)]


def _read(values: list[Tensor]) -> list[float]:
    """0-dim tensors as numbers, with one wait for each kind of tensor."""
    numbers = [math.nan] * len(values)
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, value in enumerate(values):
        kinds.setdefault((value.device, value.dtype), []).append(place)
    for places in kinds.values():
        for place, number in zip(places, torch.stack([values[p] for p in places]).tolist(), strict=True):
            numbers[place] = number
    return numbers
