"""What TrainingDoctor costs: a fit with it and one without, which take turns step by step, at steps of 10 and of 3 ms.

Whole fits one after the other differ by more than a tenth on a machine that others use too; of two that take turns,
both have the same of it.
"""

from __future__ import annotations

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


def fit(width: int, doctor: bool, steps: int, turn: Turn | None = None) -> float:
    """CPU seconds of this thread, of a fit of `steps` steps."""
    torch.manual_seed(0)
    per_epoch = steps // EPOCHS
    data = TensorDataset(torch.randn(BATCH * per_epoch, 64), torch.randint(10, (BATCH * per_epoch,)))
    val = TensorDataset(torch.randn(256, 64), torch.randint(10, (256,)))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[*([turn] if turn else []), *([new_doctor()] if doctor else [])],
    )
    module, loaders = Plain(width), (DataLoader(data, BATCH, shuffle=True), DataLoader(val, 256))
    begin = time.thread_time()
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


def width_for(seconds: float) -> int:
    """The width at which a step without a doctor takes about so long."""
    width, trial = 64, 60
    fit(width, False, trial)
    while fit(width, False, trial) / trial < seconds and width < 4096:
        width = int(1.25 * width)
    return width


def rows() -> Iterator[Row]:
    """The share of CPU time that a doctor adds to a whole fit; and what of it comes once, by fits of two lengths."""
    for name, seconds, floor in (("10 ms", 10e-3, 2.0), ("3 ms", 3e-3, 5.0)):
        width, shares, steady, once = width_for(seconds), [], [], []
        in_turns(width, 60)
        for _ in range(REPEATS):
            short, long = in_turns(width, STEPS // 3), in_turns(width, STEPS)
            shares.append(100.0 * (long[1] / long[0] - 1.0))
            growth = (long[1] - short[1]) / (long[0] - short[0])
            steady.append(100.0 * (growth - 1.0))
            once.append(1.5 * (short[1] - short[0]) - 0.5 * (long[1] - long[0]))
        label = f"TrainingDoctor, of fits with steps of {name} ({STEPS} steps)"
        yield Row(label, statistics.median(shares), "%", floor, repeats=REPEATS)
        yield Row("    the least of them", min(shares), "%", peer="the most", peer_value=max(shares))
        yield Row("    after the first looks", statistics.median(steady), "%", repeats=REPEATS)
        yield Row("    once in a run", statistics.median(once), "s", repeats=REPEATS)


if __name__ == "__main__":
    raise SystemExit(run("doctor_cost", rows()))
