"""Data and steps that take as long as they are told to, on a clock that is nobody's."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from tests.contract.modules import make_trainer


class FakeTime:
    """A clock that only moves when something is said to take time."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Slow(Dataset):
    """Rows that take `seconds` each to read."""

    def __init__(self, clock, seconds=0.0, n=120):
        self.clock, self.seconds, self.n = clock, seconds, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.clock.now += self.seconds
        mask = torch.arange(8) <= index % 8
        return {"x": torch.full((2,), float(index)), "mask": mask, "lengths": mask.sum()}


class Module(pl.LightningModule):
    """A step of `seconds`."""

    def __init__(self, clock, seconds=1.0, val_seconds=0.0):
        super().__init__()
        self.clock, self.seconds, self.val_seconds = clock, seconds, val_seconds
        self.layer = torch.nn.Linear(2, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["x"][:, 0].tolist())
        self.clock.now += self.seconds
        return self.layer(batch["x"]).mean() * 1e-6

    def validation_step(self, batch, batch_idx):
        self.clock.now += self.val_seconds

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Spend(pl.Callback):
    """Takes time in every `on_train_batch_end`."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def on_train_batch_end(self, *args):
        self.clock.now += self.seconds


def fit(directory, clock, monitor, read=0.0, step=1.0, callbacks=(), module=None, loader=None, **kwargs):
    module = module or Module(clock, step)
    loader = DataLoader(Slow(clock, read), 4) if loader is None else loader
    kwargs = {"max_epochs": 1, "log_every_n_steps": 10, **kwargs}
    trainer = make_trainer(directory, [monitor, *callbacks], **kwargs)
    val = DataLoader(Slow(clock, n=8), 4) if module.val_seconds else None
    trainer.fit(module, loader, val)
    return {k: float(v) for k, v in trainer.callback_metrics.items()}, trainer
