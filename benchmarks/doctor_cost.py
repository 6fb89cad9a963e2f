"""What TrainingDoctor costs: fits with it and without it, in turns in one process, at steps of 10 and of 3 ms."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.doctor_runs import new_doctor
from benchmarks.rows import Row, run
from benchmarks.timing import cpu_seconds

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


def fit(width: int, doctor: bool, steps: int) -> None:
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
        callbacks=[new_doctor()] if doctor else [],
    )
    trainer.fit(Plain(width), DataLoader(data, BATCH, shuffle=True), DataLoader(val, 256))


def width_for(seconds: float) -> int:
    """The width at which a step without a doctor takes about so long."""
    width, trial = 64, 60
    fit(width, False, trial)
    while cpu_seconds(partial(fit, width, False, trial)) / trial < seconds and width < 4096:
        width = int(1.25 * width)
    return width


def rows() -> Iterator[Row]:
    """The share of CPU time that a doctor adds to a whole fit; and what of it comes once, by fits of two lengths."""
    for name, seconds, floor in (("10 ms", 10e-3, 2.0), ("3 ms", 3e-3, 5.0)):
        width, shares, steady, once = width_for(seconds), [], [], []
        fit(width, True, 60)
        for _ in range(REPEATS):
            short, long = (
                [cpu_seconds(partial(fit, width, doctor, steps)) for doctor in (False, True)]
                for steps in (STEPS // 3, STEPS)
            )
            shares.append(100.0 * (long[1] / long[0] - 1.0))
            growth = (long[1] - short[1]) / (long[0] - short[0])
            steady.append(100.0 * (growth - 1.0))
            once.append(1.5 * (short[1] - short[0]) - 0.5 * (long[1] - long[0]))
        label = f"TrainingDoctor, of fits with steps of {name} ({STEPS} steps)"
        yield Row(label, statistics.median(shares), "%", floor, repeats=REPEATS)
        yield Row("    after the first looks", statistics.median(steady), "%", repeats=REPEATS)
        yield Row("    once in a run", statistics.median(once), "s", repeats=REPEATS)


if __name__ == "__main__":
    raise SystemExit(run("doctor_cost", rows()))
