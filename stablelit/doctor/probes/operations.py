"""Reads two steps of training and one of validation from their operations.

Values are looked at while an operation happens, since nothing is kept alive for it: one step that is read takes about
three times as long, and no more memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.operations import OperationFacts
from stablelit.doctor.probes.batches_leaves import leaves_of
from stablelit.doctor.probes.hooks import has_compiled_parts
from stablelit.doctor.probes.operations_measure import measure
from stablelit.doctor.probes.operations_reading import active_dropout, read
from stablelit.doctor.probes.operations_record import OperationRecord
from stablelit.doctor.probes.operations_wiring import collated_size
from stablelit.doctor.probes.probe import Probe
from stablelit.doctor.probes.step_tap import StepTap

_TRACED_STEPS = 2


class OperationProbe(Probe):
    """Knows what the loss is made of, from the operations of the first steps."""

    def __init__(self) -> None:
        self.facts = OperationFacts()
        self._tap: StepTap | None = None
        self._record: OperationRecord | None = None
        self._rows: set[int] = set()
        self._shapes: list[tuple[int, ...]] = []
        self._batch_size: int | None = None
        self._backward: list[Tensor] = []
        self._traces = 0
        self._validation_read = False
        self._expects_gradient = False

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Stands before `training_step` for this call, in the first looks."""
        self._close()
        if self._traces >= _TRACED_STEPS or not _can_trace(pl_module):
            return
        if self._traces == 0:
            self.facts.step = step
        self._traces += 1
        leaves = leaves_of(batch)
        self._rows = {tensor.shape[0] for tensor in leaves.values() if tensor.ndim} - {1}
        self._shapes = [tuple(tensor.shape) for tensor in leaves.values() if tensor.ndim]
        self._batch_size = collated_size(trainer)
        self._record = OperationRecord(leaves, measure)
        self._tap = StepTap(pl_module, "training_step", self._record, self._after_training_step)

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """In manual optimisation the loss is known only here, inside of `training_step`."""
        if self._record is not None and not pl_module.automatic_optimization:
            self._backward.append(loss)
            self._expects_gradient = True

    def after_backward(self, trainer: Any, pl_module: Any, step: int) -> None:
        """Whether what came of a traced step is finite."""
        if not self._expects_gradient or not (self.facts.edges or self._record is not None):
            return
        if pl_module.automatic_optimization:
            self._expects_gradient = False
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients:
            finite = all(bool(torch.isfinite(g.sum())) or bool(g.isfinite().all()) for g in gradients)
            self.facts.gradient_finite = finite and self.facts.gradient_finite is not False

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """The tap is taken away, if nobody called it."""
        self._close()

    def validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Stands before `validation_step` for the first such call."""
        self._close()
        if self._validation_read or not _can_trace(pl_module) or "validation_step" not in dir(pl_module):
            return
        self._validation_read = True
        record = OperationRecord({}, measure)

        def after(outputs: Any) -> None:
            self.facts.validation_dropout, self.facts.validation_dropout_where = active_dropout(record)

        self._tap = StepTap(pl_module, "validation_step", record, after)

    def validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """The tap is taken away, if nobody called it."""
        self._close()

    def tell(self, evidence: Evidence) -> None:
        """Hands its facts over."""
        evidence.operations = self.facts if self.facts.traced or self.facts.validation_dropout else None

    def leave(self, pl_module: Any) -> None:
        """Takes the tap away."""
        self._close()

    def _after_training_step(self, outputs: Any) -> None:
        record = self._record
        if record is None:
            return
        returned = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        losses = self._backward or ([returned] if isinstance(returned, Tensor) else [])
        if not self._backward:
            self._expects_gradient = bool(losses)
        # what cannot be read is not said
        with contextlib.suppress(Exception), torch.no_grad():
            if not record.broken and losses:
                read(record, losses, self._rows, self.facts, self._batch_size, self._shapes)
        self._record, self._backward = None, []

    def _close(self) -> None:
        if self._tap is not None:
            self._tap.release()
            self._tap = None
        self._record, self._backward, self._expects_gradient = None, [], False


def _can_trace(pl_module: Any) -> bool:
    """Not where a module is compiled: what runs then is not what Python calls."""
    if getattr(pl_module, "_compiler_ctx", None) is not None or has_compiled_parts(pl_module):
        return False
    # a graph of CUDA is being recorded: nothing may wait for the device
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
