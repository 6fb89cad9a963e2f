"""Fits that are interrupted at every batch, and the samples that each goes on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import TensorDataset

from stablelit import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler

N, GLOBAL_BATCH, EPOCHS = 44, 8, 3
STEPS = -(-N // GLOBAL_BATCH)
DATA = TensorDataset(torch.arange(N))
LENGTHS = [1 + i * i % 13 for i in range(N)]

Steps = list[tuple[int, list[int]]]


class Recorder(pl.LightningModule):
    """Writes down the samples of every step, a file a rank."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        with (self.folder / f"rank{self.trainer.global_rank}").open("a") as file:
            file.write(json.dumps([self.trainer.current_epoch, batch[0].tolist()]) + "\n")
        return self.weight * batch[0].float().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveEveryStep(pl.callbacks.Checkpoint):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def fit(folder: Path, save: Path | None, ckpt: Path | None, ranks: int, workers: int, buckets: bool) -> Steps:
    """The epoch and the samples of all ranks together, step by step."""
    folder.mkdir(parents=True)
    sampler, batch_size = ShuffleSampler(DATA, seed=7), GLOBAL_BATCH // ranks
    kind: dict[str, Any] = {"sampler": sampler, "batch_size": batch_size}
    if buckets:
        kind = {"batch_sampler": LengthBucketBatchSampler(sampler, LENGTHS, batch_size=batch_size, pool_batches=2)}
    many = {"devices": ranks, "strategy": "ddp_fork"} if ranks > 1 else {"devices": 1}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        callbacks=[SaveEveryStep(save)] if save else [],
        enable_checkpointing=save is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **many,
    )
    trainer.fit(Recorder(folder), ShuffleDataLoader(DATA, num_workers=workers, **kind), ckpt_path=ckpt and str(ckpt))
    files = [(folder / f"rank{rank}").read_text().splitlines() for rank in range(ranks)]
    steps = zip(*([json.loads(line) for line in file] for file in files), strict=True)
    return [(step[0][0], sorted({i for part in step for i in part[1]})) for step in steps]


def different(steps: Steps, expected: Steps) -> int:
    """Steps that are missing, too many, or have other samples."""
    pairs = sum(a != b for a, b in zip(steps, expected, strict=False))
    return pairs + abs(len(steps) - len(expected))


def every_batch(folder: Path, workers: int, buckets: bool = False) -> tuple[int, int]:
    """Different steps over resumes at every batch of two epochs, and the number of resumes."""
    whole = fit(folder / "whole", folder, None, 1, 0, buckets)
    stops = [step for step in range(1, 2 * STEPS) if step != STEPS]
    wrong = 0
    for step in stops:
        resumed = fit(folder / str(step), None, folder / f"{step}.ckpt", 1, workers, buckets)
        wrong += different(resumed, whole[step:])
    return wrong, len(stops)


def other_ranks(folder: Path, buckets: bool) -> int:
    """Different steps of a run on one rank that goes on on two, on four, and on one again."""
    steps = whole = fit(folder / "whole", folder, None, 1, 0, buckets)
    wrong = 0
    for ranks, step in ((2, 2), (4, 4), (1, 9)):
        steps = fit(folder / f"on{ranks}", folder, folder / f"{step}.ckpt", ranks, 0, buckets)
        wrong += different(steps, whole[step:])
    return wrong
