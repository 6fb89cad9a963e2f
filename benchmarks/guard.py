"""What NonFiniteGuard promises: a bad batch does not cost a run, on several ranks too, and what that costs a step.

The data are a generated regression: toy data. Final losses are means over fresh samples, in evaluation mode, over
those of the run that never met the bad batch.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import SilentLogger, Stopwatch, timed
from stablelit import NonFiniteGuard, ShuffleDataLoader, ShuffleSampler
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.callbacks._snapshots import SnapshotRing

SEEDS = (0, 1, 2)
N, BATCH = 2048, 32
HOOKS = ("on_train_batch_start", "on_before_backward", "on_train_batch_end", "_decide")


class Regression(pl.LightningModule):
    """A small network with batch norm; `bad` says at which optimizer steps, and how, the loss is spoilt."""

    def __init__(
        self, steps: int, lr: float = 1e-2, bad: dict[int, float] | None = None, rank: int | None = None
    ) -> None:
        super().__init__()
        self.steps = steps
        self.net = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))
        self.lr, self.bad, self.rank = lr, bad or {}, rank

    def training_step(self, batch, batch_idx):
        x, y = batch
        factor = self.bad.get(self.trainer.global_step, 1.0)
        if factor != 1.0 and self.rank in (None, self.global_rank):
            y = y * factor
        return (self.net(x) - y).square().mean()

    def configure_optimizers(self):
        # a rate that falls to zero leaves the least noise in the final loss
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def samples(seed: int, n: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator)
    y = torch.sin(x[:, :1]) + 0.5 * x[:, 1:2].abs() + 0.5 * torch.randn(n, 1, generator=generator)
    return TensorDataset(x, y)


def trainer(callbacks: list[pl.Callback], **kwargs: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "enable_model_summary": False, **quiet, "callbacks": callbacks, **kwargs}
    )


class Report(pl.Callback):
    """Writes down, on rank zero, the final loss and how many tensors differ between two ranks."""

    keeps_books = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        differ = 0
        for value in pl_module.parameters():
            if trainer.world_size > 1:
                both = [torch.zeros_like(value) for _ in range(trainer.world_size)]
                torch.distributed.all_gather(both, value.detach())
                differ += not torch.equal(*both)
        x, y = samples(1000, 8 * N).tensors
        pl_module.eval()
        with torch.no_grad():
            loss = float((pl_module.net(x) - y).square().mean())
        pl_module.train()
        if trainer.is_global_zero:
            torch.save({"loss": loss, "differ": differ}, self.folder / "report.pt")


def train(seed: int, callbacks: list[pl.Callback], epochs: int = 10, ranks: int = 1, **kwargs: Any) -> dict[str, float]:
    """The final loss, the tensors that differ between ranks, and the seconds of a fit."""
    pl.seed_everything(seed, verbose=False)
    data = samples(seed)
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data, seed=seed), batch_size=BATCH // ranks)
    many = {"devices": ranks, "strategy": "ddp_fork"} if ranks > 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        fit = trainer([*callbacks, Report(Path(folder))], max_epochs=epochs, default_root_dir=folder, **many)
        began = time.perf_counter()
        fit.fit(Regression(epochs * len(loader), **kwargs), loader)
        seconds = time.perf_counter() - began
        return {**torch.load(Path(folder) / "report.pt"), "seconds": seconds}


def distance(losses: list[float], clean: list[float]) -> float:
    """The largest relative distance from the clean run's loss, in percent."""
    return max(100.0 * abs(a / b - 1.0) if math.isfinite(a) else math.inf for a, b in zip(losses, clean, strict=True))


def skip_rows() -> Iterator[Row]:
    for ranks in (1, 2):
        bad = {"bad": {70: math.nan}, "rank": ranks - 1, "ranks": ranks}
        clean = [train(seed, [], ranks=ranks)["loss"] for seed in SEEDS]
        guarded = [train(seed, [NonFiniteGuard()], **bad) for seed in SEEDS]
        lost = [train(seed, [], **bad)["loss"] for seed in SEEDS]
        unguarded = ("lost runs without it", sum(not math.isfinite(loss) for loss in lost))
        where = "one rank of two" if ranks == 2 else "one rank"
        worst = distance([found["loss"] for found in guarded], clean)
        yield Row(
            f"a NaN batch on {where}, skip: final loss off the clean run's", worst, "%", 2.0, "lower", *unguarded, 3
        )
        if ranks == 2:
            yield Row(
                "    parameters that differ between the ranks", max(f["differ"] for f in guarded), "", 0, repeats=3
            )
            yield Row(
                "    seconds to the end (a hang would last)", max(f["seconds"] for f in guarded), "s", 60, repeats=3
            )


def rollback_rows() -> Iterator[Row]:
    # one batch with targets times 1e4 throws the network so far that it does not come back by itself
    lr, epochs, kick = 3e-2, 12, {330: 1e4}
    rules = {"spike_window": 64, "patience": 8, "every": "50st"}
    for ranks in (1, 2):
        shape = {"epochs": epochs, "ranks": ranks}
        clean = [train(seed, [], lr=lr, **shape)["loss"] for seed in SEEDS]
        lost = [train(seed, [], lr=lr, bad=kick, **shape)["loss"] for seed in SEEDS]
        where = f"{ranks} rank{'s' * (ranks > 1)}"
        for factor in (1.0, 0.5):
            guards = [NonFiniteGuard("rollback", lr_factor=factor, **rules) for _ in SEEDS]
            back = [train(s, [g], lr=lr, bad=kick, **shape) for s, g in zip(SEEDS, guards, strict=True)]
            worst = above([found["loss"] for found in back], clean)
            name = f"a batch times 1e4, rollback, lr_factor={factor:g}, {where}: above the clean loss"
            if factor == 1.0:
                beside = ("lost runs without it", sum(not math.isfinite(loss) for loss in lost))
                yield Row(name, worst, "%", 2.0, "lower", *beside, 3)
            else:
                half = [train(seed, [], lr=lr * factor, **shape)["loss"] for seed in SEEDS]
                yield Row(name, worst, "%", None, "lower", "clean, at that rate", above(half, clean), 3)
            if ranks == 2:
                yield Row(
                    "    parameters that differ between the ranks", max(f["differ"] for f in back), "", 0, repeats=3
                )


def above(losses: list[float], clean: list[float]) -> float:
    """How far the worst loss lies above the clean run's, in percent; below 0 where none does."""
    return max(100.0 * (a / b - 1.0) if math.isfinite(a) else math.inf for a, b in zip(losses, clean, strict=True))


class Deep(pl.LightningModule):
    """48 tensors of parameters, 36 buffers, and arithmetic until a step takes about ten milliseconds."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        blocks = [nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()) for _ in range(12)]
        self.net = nn.Sequential(*blocks)
        self.load = nn.Linear(256, 256)

    def training_step(self, batch, batch_idx):
        x = torch.ones(256, 256)
        with torch.no_grad():
            for _ in range(self.rounds):
                x = torch.tanh(self.load(x))
        return self.net(batch[0]).square().mean() + 0.0 * self.load.bias.sum()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-4)


def busy_fit(rounds: int, steps: int, callbacks: list[pl.Callback], **kwargs: Any) -> float:
    watch = Stopwatch()
    data = TensorDataset(torch.randn(6400, 64, generator=torch.Generator().manual_seed(0)))
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data), batch_size=64)
    with tempfile.TemporaryDirectory() as folder:
        fit = trainer(
            [*callbacks, watch],
            max_steps=steps,
            max_epochs=-1,
            logger=SilentLogger(),
            default_root_dir=folder,
            **kwargs,
        )
        fit.fit(Deep(rounds), loader)
    return fastest([b - a for a, b in itertools.pairwise(watch.marks[20:])])


def fastest(seconds: list[float]) -> float:
    """The tenth part of them that is fastest ends here: other processes only make steps slower."""
    return statistics.quantiles(seconds, n=10)[0]


def cost_rows() -> Iterator[Row]:
    busy_fit(1, 60, [])
    rounds = 1
    while busy_fit(rounds, 60, []) < 9.5e-3:
        rounds += 1
    measure = GradientTap._measure
    for label, policy, kwargs in (
        ("skip", "skip", {}),
        ("skip, Trainer clips by norm", "skip", {"gradient_clip_val": 1.0}),
        ("stop", "stop", {}),
        ("rollback, every 100 steps", "rollback", {}),
    ):
        shares, ratios = [], []
        for _ in range(5):
            without = busy_fit(rounds, 220, [], **kwargs)
            guard = NonFiniteGuard(policy)
            spent: dict[str, list[float]] = {name: [] for name in (*HOOKS, "_measure")}
            for name in HOOKS:
                setattr(guard, name, timed(getattr(guard, name), spent[name]))
            GradientTap._measure = timed(measure, spent["_measure"])  # type: ignore[method-assign]
            with_it = busy_fit(rounds, 220, [guard], **kwargs)
            GradientTap._measure = measure  # type: ignore[method-assign]
            # of every step; a snapshot comes now and then, and has rows of its own
            usual = sum(fastest(seconds) for seconds in spent.values() if len(seconds) > 20)
            shares.append(100.0 * usual / without)
            ratios.append(with_it / without)
        beside = ("with over without", statistics.median(ratios))
        name = f"{label}: share of a step of {1e3 * without:.1f} ms"
        yield Row(name, statistics.median(shares), "%", None, "lower", *beside, 5)


class Snapshots(pl.Callback):
    """Times snapshots of a fit that runs."""

    keeps_books = True

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.bytes = 0

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step >= 10:
            ring = SnapshotRing(2)
            began = time.perf_counter()
            ring.take(trainer, 0)
            self.seconds.append(time.perf_counter() - began)
            self.bytes = ring.snapshots[0].nbytes
            self.weights = sum(p.numel() * p.element_size() for p in pl_module.parameters())


class Wide(Deep):
    """Four million parameters more."""

    def __init__(self, rounds: int) -> None:
        super().__init__(rounds)
        self.load = nn.Linear(2048, 2048)

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean() + self.load(torch.ones(64, 2048)).square().mean()


def snapshot_rows() -> Iterator[Row]:
    watch, snapshots = Stopwatch(), Snapshots()
    data = TensorDataset(torch.randn(3200, 64, generator=torch.Generator().manual_seed(0)))
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data), batch_size=64)
    trainer([watch], max_steps=40, max_epochs=-1).fit(Wide(0), loader)
    trainer([snapshots], max_steps=40, max_epochs=-1).fit(Wide(0), loader)
    seconds = statistics.median(snapshots.seconds)
    steps = seconds / watch.median()
    yield Row("a snapshot of 4.2 M parameters with AdamW, in steps", steps, "steps", repeats=len(snapshots.seconds))
    yield Row("    its memory over the weights'", snapshots.bytes / snapshots.weights, "x", None, "lower")
    for every in (20, 100, 500):
        # on average half an interval is lost, and one step to confirm
        lost = ("steps lost in a rollback, mean", every / 2 + 1)
        yield Row(f"    every={every}: share of the run", 100.0 * steps / every, "%", None, "lower", *lost)


def rows() -> Iterator[Row]:
    yield from skip_rows()
    yield from rollback_rows()
    yield from cost_rows()
    yield from snapshot_rows()


if __name__ == "__main__":
    raise SystemExit(run("guard", rows()))
