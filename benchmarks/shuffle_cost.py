"""What ShuffleCallback and InputPipelineMonitor together cost of a step, timed inside real fits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import nn

from benchmarks.rows import Row
from benchmarks.timing import timed
from stablelit.callbacks import InputPipelineMonitor, ShuffleCallback
from stablelit.data import ShuffleDataLoader, ShuffleSampler

STEPS, EPOCH, BATCH = 300, 100, 64
HOOKS = (
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_train_batch_end",
    "on_train_epoch_end",
)


class Busy(pl.LightningModule):
    """Arithmetic until a step takes about ten milliseconds."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.load = nn.Linear(256, 256)

    def training_step(self, batch, batch_idx):
        x = torch.ones(256, 256)
        for _ in range(self.rounds):
            x = torch.tanh(self.load(x))
        return x.mean() + batch[0].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


class Stopwatch(pl.Callback):
    """The time of a whole step, from one batch's start to the next's."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.marks.append(time.perf_counter())

    def median(self) -> float:
        return statistics.median(b - a for a, b in zip(self.marks[20:], self.marks[21:], strict=False))


class SilentLogger(pl.loggers.logger.Logger):
    """Takes what it is given and forgets it: what a logger does with it is not ours."""

    name = version = ""

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *args, **kwargs):
        pass


class TimedMonitor(InputPipelineMonitor):
    """The time in its hooks, and in what the loader's `next` calls of it."""

    def __init__(self, spent: list[float]) -> None:
        super().__init__()
        self._spent = spent

    def on_train_start(self, trainer, pl_module):
        super().on_train_start(trainer, pl_module)
        loop = trainer.fit_loop.epoch_loop
        for name in ("_on_before_fetch", "_on_after_fetch"):
            loop.__dict__[name] = timed(loop.__dict__[name], self._spent, time.perf_counter)


def fit(rounds: int, steps: int, callbacks: list[pl.Callback]) -> float:
    watch = Stopwatch()
    data = torch.utils.data.TensorDataset(torch.zeros(EPOCH * BATCH, 32))
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data), batch_size=BATCH)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=SilentLogger(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, watch],
    )
    trainer.fit(Busy(rounds), loader)
    return watch.median()


def cost_rows() -> Iterator[Row]:
    """The share of a 10 ms step, three epochs of a hundred steps, default logging."""
    fit(4, 60, [])  # the first fit of a process is slower than the others
    rounds = 4
    while fit(rounds, 60, []) < 10e-3:
        rounds += 1
    shares, ratios = [], []
    for _ in range(5):
        without = fit(rounds, STEPS, [])
        spent: list[float] = []
        callbacks = [ShuffleCallback(), TimedMonitor(spent)]
        for callback in callbacks:
            for name in HOOKS:
                setattr(callback, name, timed(getattr(callback, name), spent, time.perf_counter))
        with_them = fit(rounds, STEPS, callbacks)
        shares.append(100.0 * sum(spent) / STEPS / without)
        ratios.append(with_them / without)
    name = f"ShuffleCallback and InputPipelineMonitor, of a step of {1e3 * without:.1f} ms"
    yield Row(name, statistics.median(shares), "%", 1.0, repeats=5)
    yield Row("    the step with them over the step without", statistics.median(ratios), "x", repeats=5)
