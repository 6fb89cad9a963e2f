"""Little trainings of a classifier whose curves the rules judge: at a rate, with a schedule, with a clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import nn

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings, Settings
from stablelit.doctor.rule_book import RuleBook
from stablelit.doctor.rules.curves import CURVE_RULES
from stablelit.doctor.rules.schedules import SCHEDULE_RULES

RULES = tuple(sorted((*CURVE_RULES, *SCHEDULE_RULES), key=lambda rule: rule.rank))
STEPS, BATCH, ROWS = 200, 32, 640
STEPS_PER_EPOCH = ROWS // BATCH
EPOCHS = STEPS // STEPS_PER_EPOCH


@cache
def classes(seed: int, noise: float = 0.0, spread: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Five clusters in ten dimensions, some labels drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    centres = spread * torch.randn(5, 10, generator=generator)
    y = torch.randint(5, (ROWS,), generator=generator)
    x = centres[y] + torch.randn(ROWS, 10, generator=generator)
    wrong = torch.rand(ROWS, generator=generator) < noise
    return x, torch.where(wrong, torch.randint(5, (ROWS,), generator=generator), y)


def train(
    seed: int = 0,
    kind: str = "Adam",
    rate: float = 3e-3,
    factor: Callable[[int], float] = lambda step: 1.0,
    schedule: str = "",
    clip: float | None = None,
    noise: float = 0.0,
    batch: int = BATCH,
    steps: int = STEPS,
    shuffle_labels: bool = False,
) -> Evidence:
    """The evidence of a whole run, as the callback would have filled it.

    Args:
        seed: of data, weights and batches.
        kind: of optimizer, ``Adam`` or ``SGD``.
        rate: learning rate.
        factor: what the rate is multiplied by at a step.
        schedule: as in `Settings.schedules`.
        clip: norm that gradients are clipped to.
        noise: share of labels that are drawn anew.
        batch: rows.
        steps: of the run.
        shuffle_labels: whether labels are drawn anew in every batch.
    """
    x, y = classes(seed, noise)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = getattr(torch.optim, kind)(net.parameters(), lr=rate)
    names = ("loss", "lr", "grad_norm", "update_ratio", "weight_norm")
    curves = {name: Curve() for name in names}
    matrices = [p for p in net.parameters() if p.ndim > 1]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * factor(step)
        rows = torch.randint(ROWS, (batch,), generator=generator)
        labels = torch.randint(5, (batch,), generator=generator) if shuffle_labels else y[rows]
        loss = nn.functional.cross_entropy(net(x[rows]), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(net.parameters(), clip or math.inf))
        before = [m.detach().clone() for m in matrices] if step < 5 or step % 10 == 0 else []
        optimizer.step()
        curves["loss"].add(step, float(loss.detach()))
        curves["lr"].add(step, optimizer.param_groups[0]["lr"])
        if before:
            ratios = [float((m.detach() - b).norm() / b.norm()) for m, b in zip(matrices, before, strict=True)]
            curves["grad_norm"].add(step, norm)
            curves["update_ratio"].add(step, max(ratios))
            curves["weight_norm"].add(step, math.sqrt(sum(float(m.detach().square().sum()) for m in matrices)))
    return Evidence(
        step=steps,
        planned_steps=steps,
        curves=curves,
        settings=Settings(
            automatic=True,
            batch_size=batch,
            clip_value=clip,
            optimizers=[OptimizerSettings(kind, rate, parameters=1500, trainable=1500)],
            schedules=[schedule] if schedule else [],
            steps_per_epoch=STEPS_PER_EPOCH,
            max_epochs=max(1, steps // STEPS_PER_EPOCH),
        ),
    )


def told(evidence: Evidence) -> list[str]:
    """Names of what is found of a run that is judged every 25 steps, notes left out, first cause first."""
    whole, evidence.curves = evidence.curves, {name: Curve() for name in evidence.curves}
    book, done = RuleBook(RULES), evidence.step
    for step in [*range(25, done, 25), done]:
        for name, curve in whole.items():
            keep = (curve.steps >= evidence.curve(name).steps[-1:].max(initial=-1) + 1e-9) & (curve.steps < step)
            for at, value in zip(curve.steps[keep], curve.values[keep], strict=True):
                evidence.curves[name].add(at, value)
        evidence.step, evidence.ended = step, step == done
        book.judge(evidence, structural=False)
    return [finding.name for finding in book.diagnosis(evidence).findings]


def with_loss(values: np.ndarray, planned: int | None = None, **settings: object) -> Evidence:
    """Evidence of a loss alone."""
    return Evidence(
        step=len(values),
        planned_steps=planned or len(values),
        curves={"loss": Curve(np.arange(len(values)), values)},
        settings=Settings(**settings),  # type: ignore[arg-type]
    )
