"""A module that writes down the difficulty of everything that it does."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.contract.modules import make_trainer

BATCHES = 6


def loader(n_batches: int = BATCHES, **kwargs: Any) -> DataLoader:
    data = torch.randn(2 * n_batches, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(data), batch_size=2, **kwargs)


class Silent(pl.LightningModule):
    """Trains, validates, tests and predicts, and has no difficulty."""

    def __init__(self, val_losses: list[float] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.temperature = 0.5
        self.seen: dict[str, list[float]] = {"train": [], "val": [], "test": [], "predict": []}
        self.val_losses = val_losses

    @property
    def told(self) -> float:
        return self.temperature

    def step(self, stage: str, batch: Any) -> torch.Tensor:
        self.seen[stage].append(self.told)
        return self.layer(batch[0]).square().mean()

    def training_step(self, batch, batch_idx):
        loss = self.step("train", batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.step("val", batch)

    def on_validation_epoch_end(self):
        if self.val_losses and not self.trainer.sanity_checking:
            self.log("val/loss", self.val_losses.pop(0))

    def test_step(self, batch, batch_idx):
        self.step("test", batch)

    def predict_step(self, batch, batch_idx):
        self.step("predict", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Watched(Silent):
    """The same with a difficulty."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.difficulty = 0.77

    def set_difficulty(self, difficulty: float) -> None:
        self.difficulty = difficulty

    @property
    def told(self) -> float:
        return self.difficulty


def fit(directory: Any, callbacks: list[Any], module: Any = None, **kwargs: Any) -> Any:
    """Trains three epochs of six batches; returns the module."""
    module = Watched() if module is None else module
    ckpt_path, data = kwargs.pop("ckpt_path", None), kwargs.pop("data", None)
    train = kwargs.pop("train", None)
    loaders = {"datamodule": data} if data is not None else {"train_dataloaders": train or loader()}
    if data is None:
        loaders["val_dataloaders"] = loader(1)
    kwargs.setdefault("enable_checkpointing", any("Checkpoint" in str(type(c).__mro__) for c in callbacks))
    make_trainer(directory, callbacks, **kwargs).fit(module, **loaders, ckpt_path=ckpt_path)
    return module
