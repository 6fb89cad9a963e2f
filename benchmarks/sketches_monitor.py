"""What ContrastiveHealthMonitor says of runs that fail in known ways, of runs that learn, and what it costs.

TOY data: 32 x 32 drawings of 40 generated classes. The network is four convolutions of 16 channels and a projector of
two layers; Adam, N = 32, T = 0.5 where nothing else is said. `--quick` takes 2 seeds of a healthy run instead of 10.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import SilentLogger
from benchmarks.timing import timed
from stablelit.callbacks import ContrastiveHealthMonitor
from stablelit.families.sketches.augmentation import SketchAugment
from stablelit.families.sketches.generator import generate_strokes
from stablelit.families.sketches.rasterise import rasterise_all
from stablelit.findings import FindingError
from stablelit.functional.contrastive import nt_xent

WIDTH, DIM, STEPS = 16, 64, 150
SEEDS, HEALTHY_SEEDS, QUICK_SEEDS = 3, 10, 2
REPEATS, COST_STEPS, EVERY = 5, 600, 50


@dataclass(frozen=True)
class Case:
    """A run, and what is to be said of it; None is nothing."""

    verdict: str | None = None
    norm: bool = False
    lr: float = 1e-3
    page: str = "ink"
    n: int = 32
    temperature: float = 0.5
    pairs: str = "right"
    augments: bool = True
    encoder: str = "trained"
    projector: str = "linear"
    factor: float = 1.0


FAILURES = {
    "raw 0..255 on white paper, no batch norm, lr 0.1": Case("input-not-normalised", lr=0.1, page="raw"),
    "    the same at N=128, T=0.07": Case("input-not-normalised", lr=0.1, page="raw", n=128, temperature=0.07),
    "blank pages, no batch norm": Case("blank-input", page="blank"),
    "blank pages at N=128, T=0.07": Case("blank-input", page="blank", n=128, temperature=0.07),
    "blank pages with erasing, batch norm": Case("blank-input", True, page="blank white"),
    "second view shuffled, no batch norm": Case("mispaired-views", pairs="shuffled"),
    "second view shuffled, batch norm": Case("mispaired-views", True, pairs="shuffled"),
    "views of other drawings, batch norm": Case("mispaired-views", True, pairs="unrelated"),
    "no batch norm, lr 1e-5": Case("slow-start", lr=1e-5),
    "optimizer lacks the encoder": Case("encoder-not-optimised", True, encoder="forgotten"),
    "encoder frozen": Case("encoder-not-optimised", True, encoder="frozen"),
    "no batch norm, lr 0.3": Case("dimensional-collapse", lr=0.3),
    "no batch norm, lr 0.1": Case("dimensional-collapse", lr=0.1),
    "projector ends in a rectifier, no batch norm, lr 1e-2": Case("dimensional-collapse", lr=1e-2, projector="relu"),
    "projector's rectifier is dead, batch norm": Case("collapsed-projector", True, projector="dead"),
    "encoder's last rectifier is dead": Case("dead-encoder", encoder="dead"),
    "no augmentation, batch norm": Case("weak-augmentation", True, augments=False),
    "loss of twice the scale that is told, batch norm": Case("worse-than-independent", True, factor=2.0),
}
HEALTHY = {
    "batch norm, lr 1e-3": Case(norm=True),
    "no batch norm, lr 1e-3 (begins at 4.142)": Case(),
    "white paper / 255, no batch norm, lr 1e-3": Case(page="white"),
    "raw 0..255 on white paper, batch norm, lr 1e-2": Case(norm=True, lr=1e-2, page="raw"),
}


class Contrast(pl.LightningModule):
    """NT-Xent on drawings, and ways to get it wrong."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, self.temperature = case, case.temperature
        layers: list[nn.Module] = []
        for channels in (1, WIDTH, WIDTH, WIDTH):
            norm = [nn.BatchNorm2d(WIDTH)] if case.norm else []
            layers += [nn.Conv2d(channels, WIDTH, 3, padding=1), *norm, nn.ReLU(), nn.MaxPool2d(2)]
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        norm = [nn.BatchNorm1d(256)] if case.norm else []
        last: list[nn.Module] = [] if case.projector == "linear" else [nn.ReLU()]
        self.projector = nn.Sequential(nn.Linear(4 * WIDTH, 256), *norm, nn.ReLU(), nn.Linear(256, DIM), *last)
        self.augment = SketchAugment()
        if case.projector == "dead":
            nn.init.constant_(self.projector[-2].bias, -100.0)
        if case.encoder == "dead":
            nn.init.constant_(self.encoder[-4].bias, -100.0)
        self.encoder.requires_grad_(case.encoder != "frozen")

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        case, page = self.case, batch[:, 0]
        other = batch[:, 1] if case.pairs == "unrelated" else page
        x0, x1 = (self.augment(page), self.augment(other)) if case.augments else (page, page)
        if case.page in ("raw", "white"):
            x0, x1 = 1.0 - x0, 1.0 - x1
        if case.page == "raw":
            x0, x1 = 255.0 * x0, 255.0 * x1
        if case.pairs == "shuffled":
            x1 = x1[torch.randperm(len(x1))]
        h = self.encoder(torch.cat([x0, x1]))
        z0, z1 = self.projector(h).chunk(2)
        loss = case.factor * nt_xent(z0, z1, self.temperature, gather=False)
        return {"loss": loss, "z0": z0, "z1": z1, "h": h}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = self.projector if self.case.encoder == "forgotten" else self
        return torch.optim.Adam((p for p in trained.parameters() if p.requires_grad), self.case.lr)


@cache
def drawings() -> Tensor:
    """(800, 1, 32, 32), ink 1 on paper 0."""
    strokes, _ = generate_strokes(40, 20)
    return torch.from_numpy(rasterise_all(strokes)).unsqueeze(1).float() / 255.0


class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """Batches of two drawings each, (N, 2, 1, 32, 32); the second is for views that are unrelated."""

    def __init__(self, case: Case, seed: int, steps: int) -> None:
        self.case, self.seed, self.steps = case, seed, steps

    def __iter__(self) -> Iterator[Tensor]:
        generator, pool = torch.Generator().manual_seed(self.seed), drawings()
        if self.case.page.startswith("blank"):
            pool = torch.full_like(pool, float(self.case.page == "blank white"))
        for _ in range(self.steps):
            order = torch.randperm(len(pool), generator=generator)
            yield pool[order[: 2 * self.case.n]].unflatten(0, (self.case.n, 2))


def verdict_of(case: Case, seed: int, steps: int = STEPS) -> tuple[str, int]:
    """The verdict of a run, and the step of its finding."""
    torch.manual_seed(seed)
    monitor = ContrastiveHealthMonitor()
    with tempfile.TemporaryDirectory() as directory:
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=SilentLogger(),
            default_root_dir=directory,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[monitor],
        )
        loader = torch.utils.data.DataLoader(Batches(case, seed, steps), batch_size=None)
        try:
            trainer.fit(Contrast(case), loader)
        except FindingError as error:
            return error.finding.name, error.finding.step
    return monitor.verdict.name, monitor._reporter.raised.get(monitor.verdict.name, 0)


def verdict_rows(healthy_seeds: int = HEALTHY_SEEDS) -> Iterator[Row]:
    """How often the verdict is right after 150 steps, with the step; and how often a run that learns has one."""
    for name, case in FAILURES.items():
        found = [verdict_of(case, seed) for seed in range(SEEDS)]
        right = [step for verdict, step in found if verdict == case.verdict]
        wrong = sorted({verdict for verdict, _ in found if verdict != case.verdict})
        label = f"{name}: {case.verdict}" + (f" (also {', '.join(wrong)})" if wrong else "")
        step = statistics.median(right) if right else None
        yield Row(label, len(right), f"of {SEEDS}", SEEDS, "higher", "step", step, SEEDS)
    for name, case in HEALTHY.items():
        names = [verdict_of(case, seed)[0] for seed in range(healthy_seeds)]
        false = [verdict for verdict in names if verdict != "ok"]
        label = f"{name}: verdicts" + (f" ({', '.join(sorted(set(false)))})" if false else "")
        yield Row(label, len(false), f"of {healthy_seeds}", 0, repeats=healthy_seeds)


class Busy(pl.LightningModule):
    """Returns what a contrastive module does of 256 pairs, and does arithmetic for some ten milliseconds."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds, self.temperature = rounds, 0.2
        self.load, self.encoder, self.projector = nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 128)
        self.register_buffer("views", torch.randn(512, 256))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x = torch.ones(256, 256)
        for _ in range(self.rounds):
            x = torch.tanh(self.load(x))
        h = self.encoder(self.views)
        z0, z1 = self.projector(h).chunk(2)
        return {"loss": x.mean() + z0.mean(), "z0": z0, "z1": z1, "h": h}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-4)


HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def fit(rounds: int, monitor: pl.Callback | None) -> float:
    """Seconds of the processor a step."""
    data = torch.utils.data.TensorDataset(torch.randn(COST_STEPS, 16, 16))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=SilentLogger(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if monitor is None else [monitor],
    )
    loader = torch.utils.data.DataLoader(data, batch_size=1)
    begin = time.process_time()
    trainer.fit(Busy(rounds), loader)
    return (time.process_time() - begin) / COST_STEPS


def hook_seconds(rounds: int, callback: pl.Callback) -> tuple[float, float]:
    """In a step without a look, the median; in one with a look, the mean of eight of which one takes the rank."""
    spent: dict[str, list[float]] = {name: [] for name in HOOKS}
    for name, of_hook in spent.items():
        # a clock that costs little beside a hook
        setattr(callback, name, timed(getattr(callback, name), of_hook, time.perf_counter))
    fit(rounds, callback)
    steps = [sum(of_step) for of_step in zip(*spent.values(), strict=True)]
    looks = [steps[at - 1] for at in range(COST_STEPS - 7 * EVERY, COST_STEPS + 1, EVERY)]
    return statistics.median(steps), statistics.mean(looks)


def cost_rows() -> Iterator[Row]:
    """The share of a step of ten milliseconds at the default interval, 256 pairs of 128 dimensions."""
    fit(1, None)  # the first fit of a process is slower than the others
    rounds = 1
    while fit(rounds, None) < 10e-3:
        rounds += 1
    shares, lengths = [], []
    for _ in range(REPEATS):
        lengths.append(fit(rounds, None))
        # what taking the time costs is no cost of the monitor's
        plain, look = (
            a - b
            for a, b in zip(
                hook_seconds(rounds, ContrastiveHealthMonitor()), hook_seconds(rounds, pl.Callback()), strict=True
            )
        )
        shares.append(100.0 * (plain + look / EVERY) / lengths[-1])
    name = f"ContrastiveHealthMonitor, of a step of {1e3 * statistics.median(lengths):.1f} ms"
    yield Row(name, statistics.median(shares), "%", 1.0, repeats=REPEATS)


def rows(healthy_seeds: int = HEALTHY_SEEDS) -> Iterator[Row]:
    yield from cost_rows()
    yield from verdict_rows(healthy_seeds)


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--quick"]
    raise SystemExit(run("sketches_monitor", rows(QUICK_SEEDS if quick else HEALTHY_SEEDS)))
