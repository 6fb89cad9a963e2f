"""What PosteriorMonitor costs of a step and of an evaluation, inside real fits.

In time of the processor, so that what else the machine does is counted for neither.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import SilentLogger
from benchmarks.timing import timed
from stablelit.callbacks import PosteriorMonitor
from stablelit.callbacks._posterior_sums import KEPT_BATCHES
from stablelit.functional.posterior import mutual_information

# an epoch of whole times the batches that are reduced together, of which every fourth is looked at
STEPS, LATENT, BATCH = 4 * KEPT_BATCHES, 24, 64
REPEATS = 5
HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_batch_end")
EVALUATIONS = ("on_validation_end", "on_train_epoch_end")


class BusyVAE(pl.LightningModule):
    """Returns what a VAE returns, and does arithmetic until a step takes about ten milliseconds."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.load, self.encoder = nn.Linear(256, 256), nn.Linear(32, 2 * LATENT)
        self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)

    def terms(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, logvar = self.encoder(x).chunk(2, -1)
        kl_per_dim = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)
        parts = {"recon": (mean.sum(-1) - 1).square(), "kl": kl_per_dim.sum(-1), "kl_per_dim": kl_per_dim}
        return {**parts, "mean": mean, "logvar": logvar}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        x = torch.ones(256, 256)
        for _ in range(self.rounds):
            x = torch.tanh(self.load(x))
        parts = self.terms(batch[0])
        return {"loss": (parts["recon"] + self.kl_weight * parts["kl"]).mean() + x.mean(), **parts}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        return self.terms(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-4)


class Stopwatch(pl.Callback):
    """The median time from one batch's start to the next's."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.marks.append(time.process_time())

    def median(self) -> float:
        return statistics.median(b - a for a, b in zip(self.marks, self.marks[1:], strict=False))


def fit(rounds: int, callbacks: list[pl.Callback]) -> float:
    watch = Stopwatch()
    data = torch.utils.data.TensorDataset(torch.randn(STEPS * BATCH, 32))
    held_out = torch.utils.data.TensorDataset(torch.randn(8 * BATCH, 32))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=SilentLogger(),
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, watch],
    )
    loaders = [torch.utils.data.DataLoader(d, batch_size=BATCH) for d in (data, held_out)]
    trainer.fit(BusyVAE(rounds), *loaders)
    return watch.median()


def cost_rows() -> Iterator[Row]:
    """The share of a 10 ms step: in the steps, and with an evaluation every hundred of them."""
    fit(4, [])  # the first fit of a process is slower than the others
    rounds = 1
    while fit(rounds, []) < 10e-3:
        rounds += 1
    in_steps, in_all, lengths = [], [], []
    for _ in range(REPEATS):
        without = fit(rounds, [])
        steps: list[float] = []
        evaluations: list[float] = []
        monitor = PosteriorMonitor()
        for names, spent in ((HOOKS, steps), (EVALUATIONS, evaluations)):
            for name in names:
                setattr(monitor, name, timed(getattr(monitor, name), spent))
        fit(rounds, [monitor])
        share = sum(steps) / STEPS / without
        lengths.append(without)
        in_steps.append(100.0 * share)
        in_all.append(100.0 * (share + sum(evaluations) / 100.0 / without))
    name = f"PosteriorMonitor, of a step of {1e3 * statistics.median(lengths):.1f} ms"
    yield Row(f"{name}: sums", statistics.median(in_steps), "%", 1.0, repeats=REPEATS)
    yield Row(
        "    and an evaluation of 512 posteriors every 100 steps", statistics.median(in_all), "%", repeats=REPEATS
    )


def information_rows() -> Iterator[Row]:
    """The bias of the mutual information, where it is known: z = a x + noise, x normal in 4 dimensions."""
    for snr in (1.0, 10.0, 100.0):
        exact = 2.0 * torch.log1p(torch.tensor(snr)).item()
        estimates = []
        for seed in range(5):
            x = torch.randn(512, 4, generator=torch.Generator().manual_seed(seed))
            estimates.append(mutual_information(x * snr**0.5, torch.zeros_like(x), seed)[0])
        yield Row(
            f"mutual information of 512 posteriors, exactly {exact:.2f} nats (ln 512 = 6.24)",
            statistics.median(estimates),
            "nats",
            peer="exact",
            peer_value=exact,
            repeats=5,
        )


def rows() -> Iterator[Row]:
    yield from information_rows()
    yield from cost_rows()


if __name__ == "__main__":
    raise SystemExit(run("posterior_cost", rows()))
