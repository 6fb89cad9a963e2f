"""A VAE and data of a few kilobytes: what the doors are tried with."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stablelit.data import ShuffleDataLoader, ShuffleSampler
from stablelit.errors import DataError
from stablelit.optim import build_optimizers

WIDTH = 6


class TinyDataModule(pl.LightningDataModule):
    """Points near a plane."""

    def __init__(self, n: int = 64, batch_size: int = 16, seed: int = 0, broken: bool = False) -> None:
        super().__init__()
        if broken:
            raise DataError("points.csv: row 3: nothing there")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(n, 2, generator=generator) @ torch.randn(2, WIDTH, generator=generator)
        self.points = points + 0.1 * torch.randn(n, WIDTH, generator=generator)
        self.split_indices = {
            "train": list(range(n // 2)),
            "val": list(range(n // 2, 3 * n // 4)),
            "test": list(range(3 * n // 4, n)),
        }

    def identity(self) -> dict[str, object]:
        return {"kind": "toy plane", "n": self.n, "seed": self.seed}

    def _part(self, name: str) -> TensorDataset:
        return TensorDataset(self.points[self.split_indices[name]])

    def train_dataloader(self) -> ShuffleDataLoader:
        data = self._part("train")
        return ShuffleDataLoader(data, sampler=ShuffleSampler(data, seed=self.seed), batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self._part("val"), batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self._part("test"), batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self.test_dataloader()


def a_plane_of_any_size(n: int, batch_size: int, seed: int) -> TinyDataModule:
    return TinyDataModule(n, batch_size, seed)


class TinyVAE(pl.LightningModule):
    """A linear VAE that can be told to fail in the ways that runs fail."""

    def __init__(
        self,
        latent_dim: int = 2,
        learning_rate: float = 1e-2,
        fail_with: str | None = None,
        fail_at_step: int = 3,
        optimizer: object = None,
        lr_schedule: object = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.learning_rate = learning_rate
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self.encoder = nn.Linear(WIDTH, 2 * latent_dim)
        self.decoder = nn.Linear(latent_dim, WIDTH)
        self.register_buffer("kl_weight", torch.tensor(1.0))

    def _terms(self, batch: list[Tensor]) -> dict[str, Tensor]:
        (x,) = batch
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        recon = ((self.decoder(z) - x) ** 2).sum(-1)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
        return {"recon": recon.mean(), "kl": kl.mean(), "neg_elbo": (recon + kl).mean()}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        terms = self._terms(batch)
        loss = terms["recon"] + self.kl_weight * terms["kl"]
        if self.hparams["fail_with"] and self.global_step >= self.hparams["fail_at_step"]:
            loss = self._fail(self.hparams["fail_with"], loss)
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        self.log("train/kl", terms["kl"], on_step=False, on_epoch=True)
        return {"loss": loss, "kl": terms["kl"]}

    def _fail(self, how: str, loss: Tensor) -> Tensor:
        if how == "infinity":
            return loss * float("nan")
        if how == "nan_error":
            raise ValueError("Expected parameter loc of distribution Normal, but found invalid values: tensor([nan])")
        if how == "memory":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "killed_once":
            if not Path("killed").exists():
                Path("killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return loss
        if how in ("ctrl_c", "sigterm"):
            os.kill(os.getpid(), signal.SIGINT if how == "ctrl_c" else signal.SIGTERM)
            return loss
        if how == "sigterm_to_parent":
            if self.trainer.is_global_zero and self.global_step == self.hparams["fail_at_step"]:
                os.kill(os.getppid(), signal.SIGTERM)
            return loss
        if how in ("rank_exits", "rank_is_killed"):
            if self.global_rank == 1:
                os._exit(3) if how == "rank_exits" else os.kill(os.getpid(), signal.SIGKILL)
            return loss
        raise ZeroDivisionError("a defect")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._log_evaluation(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._log_evaluation(batch, "test")

    def _log_evaluation(self, batch: list[Tensor], stage: str) -> None:
        terms = self._terms(batch)
        self.log(f"{stage}/loss", terms["neg_elbo"], prog_bar=True)
        self.log(f"{stage}/loss_floor", 0.5)
        self.log(f"{stage}/kl", terms["kl"])

    def configure_optimizers(self) -> object:
        return build_optimizers(self, self._optimizer, self._lr_schedule, self.learning_rate)

    def generate_to_file(self, path: str, n: int, seed: int = 0, temperature: float = 1.0) -> dict[str, object]:
        generator = torch.Generator().manual_seed(seed)
        z = temperature * torch.randn(n, self.hparams["latent_dim"], generator=generator)
        with torch.no_grad():
            torch.save(self.decoder(z), path)
        return {"n": n, "width": WIDTH}

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.encoder(batch[0])[:, : self.hparams["latent_dim"]]

    def write_predictions(self, predictions: list[Tensor], path: str) -> dict[str, object]:
        codes = torch.cat(list(predictions))
        torch.save(codes, path)
        return {"points": len(codes)}


class SelfReliant(TinyVAE):
    """A module of somebody else's, with an optimizer of its own and nothing to generate."""

    generate_to_file = None
    write_predictions = None

    def __init__(
        self, latent_dim: int = 2, learning_rate: float = 1e-3, fail_with: str | None = None, fail_at_step: int = 3
    ) -> None:
        super().__init__(latent_dim, learning_rate, fail_with, fail_at_step)

    def configure_optimizers(self) -> object:
        return torch.optim.SGD(self.parameters(), lr=1e-3)
