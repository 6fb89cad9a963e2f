"""One training run of the bench, with the doctor or without, and how far it lies from its healthy reference."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import lightning.pytorch as pl

from benchmarks.doctor_faults import FAULTS, Variant
from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_projects import build
from benchmarks.doctor_repairs import repaired
from benchmarks.doctor_settings import Config
from stablelit.findings import Finding

# what two runs that differ by their seed alone may differ by
NOISE = 0.03
GAP_LEFT = 0.10
BLOCKS, SHOWN = 10, ("loss", "val_loss", "lr", "grad_norm", "update_ratio", "weight_norm")


@dataclass
class Outcome:
    """What a run came to.

    Args:
        true: score on clean validation data in evaluation mode.
        told: the score that the project itself logged last.
        findings: of severity warning and above, the primary cause first.
        notes: the others.
        steps: optimizer steps.
        seconds: of the wall clock.
        error: what the run raised.
        curves: block medians of what the doctor's evidence holds.
        losses: of training, by optimizer step; none in manual optimisation.
    """

    true: float
    told: float
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    error: str = ""
    curves: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [finding.name for finding in self.findings]


class Losses(pl.Callback):
    """Keeps the loss of each step, with a doctor and without."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._window: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if pl_module.automatic_optimization and loss is not None:
            self._window.append(float(loss) * trainer.accumulate_grad_batches)
            if len(self._window) == trainer.accumulate_grad_batches:
                self.values.append(sum(self._window) / len(self._window))
                self._window = []


def train(config: Config, seed: int, doctor: pl.Callback | None = None) -> Outcome:
    """One fit; a doctor is added as anybody would add it."""
    project = build(config, seed)
    losses = Losses()
    arguments = project.trainer | {"callbacks": [losses, *([doctor] if doctor else [])]}
    begin, error = time.perf_counter(), ""
    with tempfile.TemporaryDirectory() as directory, contextlib.suppress(KeyboardInterrupt):
        trainer = pl.Trainer(default_root_dir=directory, **arguments)
        try:
            trainer.fit(project.module, project.train_loader, project.val_loader)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    seconds = time.perf_counter() - begin
    project.module.float()
    told = float(trainer.callback_metrics.get("val_score", math.nan))
    told = told if math.isfinite(told) else 0.0
    found: Any = doctor
    return Outcome(
        project.true_score(),
        told,
        list(found.findings) if doctor else [],
        list(found.notes) if doctor else [],
        trainer.global_step,
        seconds,
        error,
        {name: found.evidence.curve(name).blocks(BLOCKS).tolist() for name in SHOWN} if doctor else {},
        losses.values,
    )


def new_doctor() -> pl.Callback:
    from stablelit.doctor import TrainingDoctor

    doctor: pl.Callback = TrainingDoctor()
    return doctor


@cache
def reference(base: str, seed: int) -> Outcome:
    """The healthy run, without a doctor."""
    return train(HEALTHY[base].config, seed)


def harm(run: Outcome, healthy: Outcome) -> float:
    """What is lost: in the true score, or in what the project tells of it."""
    deceit = abs(run.told - run.true) - abs(healthy.told - healthy.true)
    return max(healthy.true - run.true, deceit, 0.0)


@dataclass
class FaultRun:
    """A faulty run, its reference, and the run with what the doctor named first applied."""

    name: str
    seed: int
    variant: Variant
    accepted: tuple[str, ...]
    visible: int | None
    run: Outcome
    harm: float
    healthy_losses: list[float] = field(default_factory=list)
    repaired_harm: float | None = None

    @property
    def found(self) -> bool:
        return bool(self.run.findings)

    @property
    def named_first(self) -> bool:
        return self.found and self.run.names[0] in self.accepted

    @property
    def named_at_all(self) -> bool:
        return any(name in self.accepted for name in self.run.names)

    @property
    def told_at(self) -> int | None:
        """The step at which the right cause was told."""
        return min((finding.step for finding in self.run.findings if finding.name in self.accepted), default=None)

    @property
    def delay(self) -> int | None:
        """Steps from when it could be seen to when the right cause was told."""
        return None if self.visible is None or self.told_at is None else max(0, self.told_at - self.visible)

    @property
    def mended(self) -> bool:
        return self.repaired_harm is not None and self.repaired_harm <= max(GAP_LEFT * self.harm, NOISE)


def run_fault(name: str, seed: int, tune: bool, repair: bool) -> FaultRun | None:
    """None where a fault is kept from tuning."""
    fault = FAULTS[name]
    variant = fault.variant(tune)
    if variant is None:
        return None
    healthy = reference(variant.base, seed)
    run = train(variant.config, seed, new_doctor())
    done = FaultRun(name, seed, variant, fault.accepted, fault.visible, run, harm(run, healthy), healthy.losses)
    if repair and run.findings:
        mended = repaired(run.findings[0], variant.base, variant.config)
        if mended is not None:
            done.repaired_harm = harm(train(mended, seed), healthy)
    return done


@dataclass
class HealthyRun:
    """A run that is to be left alone."""

    name: str
    seed: int
    learns: float
    run: Outcome


def run_healthy(name: str, seed: int) -> HealthyRun:
    return HealthyRun(name, seed, HEALTHY[name].learns, train(HEALTHY[name].config, seed, new_doctor()))
