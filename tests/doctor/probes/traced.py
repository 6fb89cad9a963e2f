"""A module in little, and its training in Lightning's order, looked at by probes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.probes import Probe
from stablelit.doctor.probes.batches import BatchProbe
from stablelit.doctor.probes.operations import OperationProbe


class Host(nn.Module):
    """Has one network, and takes a step that somebody writes: `step(self, batch)`."""

    automatic_optimization = True

    def __init__(self, network: nn.Module, step: Callable[[Host, Any], Any]) -> None:
        super().__init__()
        self.network, self._step = network, step

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self._step(self, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self._step(self, batch)


def watch(
    host: Host,
    batches: list[Any],
    probes: list[Probe] | None = None,
    validation: list[Any] | None = None,
    loader: Any = None,
) -> Evidence:
    """Looks at every batch; nothing is optimised."""
    probes = probes or [OperationProbe(), BatchProbe()]
    evidence = Evidence()
    trainer: Any = SimpleNamespace(train_dataloader=loader, val_dataloaders=None, current_epoch=0)
    for probe in probes:
        probe.begin(trainer, host, evidence)
    for step, batch in enumerate(batches):
        for probe in probes:
            probe.batch_start(trainer, host, batch, step)
        outputs = host.training_step(batch, step)
        loss: Tensor = outputs["loss"] if isinstance(outputs, dict) else outputs
        for probe in probes:
            probe.before_backward(trainer, host, loss, step)
        if loss.requires_grad:
            loss.backward()
        for probe in probes:
            probe.after_backward(trainer, host, step)
            probe.batch_end(trainer, host, outputs, batch, step)
        host.zero_grad()
    for step, batch in enumerate(validation or []):
        for probe in probes:
            probe.validation_batch_start(trainer, host, batch, step)
        with torch.no_grad():
            host.validation_step(batch, step)
        for probe in probes:
            probe.validation_batch_end(trainer, host, None, batch, step)
    evidence.step = len(batches)
    for probe in probes:
        probe.tell(evidence)
        probe.leave(host)
    return evidence


def seeded(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that do not touch the global generator."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
