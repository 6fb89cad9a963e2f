"""A training loop in Lightning's order that calls probes as the doctor does, in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.probes.probe import Probe

FEATURES, CLASSES, BATCH = 8, 3, 16


def mlp(*hidden: int, act: type[nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Linear layers with an activation between them."""
    torch.manual_seed(seed)
    sizes = (FEATURES, *(hidden or (12, 12)))
    parts = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), act())]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], CLASSES))


def batches(steps: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Rows whose class is the largest of three of their features."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, BATCH, FEATURES, generator=generator)
    return [(x, x[:, :CLASSES].argmax(1)) for x in inputs]


def loop(
    probe: Probe,
    net: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    steps: int = 6,
    *,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    zero_grad: bool = True,
    after_backward: Callable[[nn.Module], None] | None = None,
    before_batch: Callable[[int, nn.Module], None] | None = None,
    schedules: Sequence[Any] = (),
    seed: int = 0,
) -> Evidence:
    """Automatic optimisation of one loss; returns what the probe has told."""
    optimizer = optimizer or torch.optim.Adam(net.parameters(), 1e-2)
    trainer = SimpleNamespace(optimizers=[optimizer], accumulate_grad_batches=1, lr_scheduler_configs=list(schedules))
    evidence = Evidence()
    probe.begin(trainer, net, evidence)
    for step, (inputs, labels) in enumerate(batches(steps, seed)):
        if before_batch is not None:
            before_batch(step, net)
        probe.batch_start(trainer, net, (inputs, labels), step)
        loss = loss_of(net, inputs, labels) if loss_of else F.cross_entropy(net(inputs), labels)
        if zero_grad:
            optimizer.zero_grad()
        probe.before_backward(trainer, net, loss, step)
        loss.backward()
        if after_backward is not None:
            after_backward(net)
        probe.after_backward(trainer, net, step)
        probe.before_step(trainer, net, optimizer, step)
        optimizer.step()
        probe.batch_end(trainer, net, loss, (inputs, labels), step)
        evidence.step = step + 1
        probe.tell(evidence)
    return evidence
