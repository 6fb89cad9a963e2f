"""What TrainingDoctor costs of whole fits of 600 steps, first looks included, at steps of about 10 and of about 3 ms.

Measured is the processor's time in the doctor (`doctor_clock.py`) over the rest of the same fit, which on a machine
that others use too repeats to a tenth of it. Beside it stands, as a check that has nothing in common with it, the time
of a fit with a doctor over one without, of two that take turns step by step: whole fits one after the other differ by
more than a tenth.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.doctor_clock import DoctorClock
from benchmarks.doctor_runs import new_doctor
from benchmarks.rows import Row, run

STEPS, EPOCHS, REPEATS, BATCH = 600, 2, 5, 48


class Plain(pl.LightningModule):
    """A classifier of four layers; more rows make its step longer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [64, width, width, width]
        parts = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.network = nn.Sequential(*parts, nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.network(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


class Turn(pl.Callback):
    """Two trainings, each in its own thread: one waits where its step begins until the other has made one."""

    def __init__(self, mine: threading.Semaphore, others: threading.Semaphore) -> None:
        self.mine, self.others, self.has_begun = mine, others, False

    def on_train_batch_start(self, *_: Any) -> None:
        if self.has_begun:
            self.others.release()
        self.has_begun = True
        self.mine.acquire()


def fit(width: int, doctor: bool, steps: int, turn: Turn | None = None, clock: DoctorClock | None = None) -> float:
    """CPU seconds of this thread, of a fit of `steps` steps; a `clock` times the doctor."""
    torch.manual_seed(0)
    per_epoch = steps // EPOCHS
    data = TensorDataset(torch.randn(BATCH * per_epoch, 64), torch.randint(10, (BATCH * per_epoch,)))
    val = TensorDataset(torch.randn(256, 64), torch.randint(10, (256,)))
    examiner = [new_doctor()] if doctor else []
    if clock is not None:
        examiner = [clock.on(each) for each in examiner]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[*([turn] if turn else []), *examiner],
    )
    module, loaders = Plain(width), (DataLoader(data, BATCH, shuffle=True), DataLoader(val, 256))
    begin = time.thread_time()
    with clock.watching() if clock else contextlib.nullcontext():
        trainer.fit(module, *loaders)
    spent = time.thread_time() - begin
    if turn is not None:
        turn.others.release(steps)
    return spent


def in_turns(width: int, steps: int) -> tuple[float, float]:
    """CPU seconds of a fit without a doctor and of one with it."""
    locks = threading.Semaphore(1), threading.Semaphore(0)
    with ThreadPoolExecutor(2) as threads:
        fits = [
            threads.submit(fit, width, doctor, steps, Turn(locks[doctor], locks[not doctor]))
            for doctor in (False, True)
        ]
        plain, examined = (each.result() for each in fits)
    return plain, examined


def share_of_a_fit(width: int, steps: int) -> float:
    """Percent: time in the doctor over the rest of the same fit."""
    clock = DoctorClock()
    spent = fit(width, True, steps, clock=clock)
    return 100.0 * clock.seconds / (spent - clock.seconds)


def width_for(seconds: float) -> int:
    """The width at which a step without a doctor takes about so long."""
    width, trial = 64, 60
    fit(width, False, trial)
    while fit(width, False, trial) / trial < seconds and width < 4096:
        width = int(1.25 * width)
    return width


def rows() -> Iterator[Row]:
    """The share of CPU time that a doctor takes of a whole fit; beside it, what a fit with one takes longer."""
    for name, seconds, floor in (("10 ms", 10e-3, 2.0), ("3 ms", 3e-3, 5.0)):
        width = width_for(seconds)
        in_turns(width, 60)
        shares = [share_of_a_fit(width, STEPS) for _ in range(REPEATS)]
        longer = [100.0 * (examined / plain - 1.0) for plain, examined in (in_turns(width, STEPS) for _ in shares)]
        label = f"TrainingDoctor, of fits with steps of {name} ({STEPS} steps)"
        yield Row(label, statistics.median(shares), "%", floor, repeats=REPEATS)
        yield Row("    the least of them", min(shares), "%", peer="the most", peer_value=max(shares))
        label = "    a fit with it over one without, in turns"
        yield Row(label, statistics.median(longer), "%", repeats=REPEATS)
        yield Row("    the least of them", min(longer), "%", peer="the most", peer_value=max(longer))


if __name__ == "__main__":
    raise SystemExit(run("doctor_cost", rows()))
