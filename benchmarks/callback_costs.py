"""What each callback costs: its share of a step of about ten milliseconds, and what comes once, an epoch, a checkpoint.

Each is used as a new user would, with its defaults, alone, in a fit of a VAE that returns whatever any of them asks for
(toy numbers). Time is that of the training's thread inside the callback over the rest of the same fit (`hook_clock`),
so that other processes and the difference between two fits do not count. A callback that does nothing stands beside
them, and what Lightning takes to call it. TrainingDoctor looks at single operations too: `benchmarks.doctor_cost`.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.trainer import call
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import stablelit.callbacks as suite
from benchmarks.hook_clock import HookClock
from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import SilentLogger
from benchmarks.timing import timed
from stablelit.data import EpisodicSampler, LengthBucketBatchSampler, ShuffleSampler

EPOCHS, EPOCH, BATCH, LATENT, FIRST, REPEATS = 4, 50, 64, 24, 50, 5
EVALUATED = 8 * BATCH

NOTHING = "a callback that does nothing"
CALLBACKS: dict[str, Callable[[], pl.Callback]] = {
    NOTHING: lambda: Idle(),
    "KLCapCallback": lambda: suite.KLCapCallback(kl_target=3.0),
    "ScalarSchedule": lambda: suite.ScalarSchedule("temperature", 1.0, 0.1, duration="0.5dur", shape="cosine"),
    "CurriculumCallback": lambda: suite.CurriculumCallback(),
    "ShuffleCallback": suite.ShuffleCallback,
    "InputPipelineMonitor": suite.InputPipelineMonitor,
    "GradClipMonitor": suite.GradClipMonitor,
    "AdaptiveGradClip": suite.AdaptiveGradClip,
    "GradientReachCheck": lambda: suite.GradientReachCheck({"recon": ["encoder", "decoder"], "kl": "encoder"}),
    "NonFiniteGuard": suite.NonFiniteGuard,
    "NonFiniteGuard, beside a clip of Lightning's": suite.NonFiniteGuard,
    'NonFiniteGuard, policy="rollback"': lambda: suite.NonFiniteGuard("rollback"),
    "ThresholdSweepValidation": suite.ThresholdSweepValidation,
    "PosteriorMonitor": suite.PosteriorMonitor,
    "ContrastiveHealthMonitor": suite.ContrastiveHealthMonitor,
    "OnlineKNN": suite.OnlineKNN,
    "OnlineLinearProbe": lambda: suite.OnlineLinearProbe(n_classes=10),
    "EMACallback": suite.EMACallback,
    "DurableCheckpoint": suite.DurableCheckpoint,
    "RandomStateCheckpoint": suite.RandomStateCheckpoint,
    "EpochMeanCheckpoint": suite.EpochMeanCheckpoint,
    "AccumulationCheckpoint": suite.AccumulationCheckpoint,
    "OptimizerSettings": suite.OptimizerSettings,
    "InterruptCheckpoint": suite.InterruptCheckpoint,
    "StepCheckpoint": lambda: suite.StepCheckpoint(["0.5dur"]),
    "PartWriter": suite.PartWriter,
    "SampleWriter": lambda: suite.SampleWriter(["0.5dur"], suffix=".pt"),
    "EdgeListWriter": suite.EdgeListWriter,
    "HistoryWriter": suite.HistoryWriter,
    "FigureWriter": lambda: suite.FigureWriter(curves={"loss": [["train/loss", "val/loss"]]}),
    "EpochPrinter": lambda: suite.EpochPrinter(always=True),
    "StableProgressBar": suite.StableProgressBar,
    "DeviceMemoryMonitor": suite.DeviceMemoryMonitor,
}
# no promise of 2 %: these read every gradient or weight, or train, or search, beside the model
WITHOUT_A_FLOOR = (
    "GradClipMonitor",
    "AdaptiveGradClip",
    "NonFiniteGuard",
    'NonFiniteGuard, policy="rollback"',
    "NonFiniteGuard, beside a clip of Lightning's",
    "EMACallback",
    "OnlineKNN",
    "OnlineLinearProbe",
    "EpisodicSampler, 5-way 1-shot",
)
# those of a fit touch nothing of each other's: of callbacks that look at the clip there is one in each
TOGETHER: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    ((NOTHING, "KLCapCallback", "ScalarSchedule", "CurriculumCallback", "NonFiniteGuard"), {}),
    (("ShuffleCallback", "InputPipelineMonitor", "GradClipMonitor", "EpochMeanCheckpoint"), {"gradient_clip_val": 1.0}),
    (("AdaptiveGradClip", "PosteriorMonitor", "ThresholdSweepValidation", "OnlineKNN"), {}),
    (('NonFiniteGuard, policy="rollback"', "ContrastiveHealthMonitor", "OnlineLinearProbe"), {}),
    (("EMACallback", "GradientReachCheck", "DurableCheckpoint", "RandomStateCheckpoint", "OptimizerSettings"), {}),
    (("AccumulationCheckpoint", "InterruptCheckpoint", "StepCheckpoint", "HistoryWriter", "EpochPrinter"), {}),
    (("NonFiniteGuard, beside a clip of Lightning's",), {"gradient_clip_val": 1.0}),
    (("PartWriter", "SampleWriter", "EdgeListWriter", "FigureWriter", "StableProgressBar", "DeviceMemoryMonitor"), {}),
)


class Idle(pl.Callback):
    """Does nothing, in each of the hooks that come in a step."""

    HOOKS = (
        "on_train_batch_start",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_before_zero_grad",
        "on_train_batch_end",
    )

    def on_train_batch_start(self, *_: Any) -> None:
        """Does nothing."""

    on_before_backward = on_after_backward = on_before_optimizer_step = on_before_zero_grad = on_train_batch_start
    on_train_batch_end = on_train_batch_start


class Edges:
    """Edges as the contract has them."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def to_csv(self, path: Any) -> None:
        Path(path).write_text("\n".join(",".join(map(repr, row)) for row in self.scores.tolist()))

    def to_graphml(self, path: Any) -> None:
        Path(path).write_text("<graphml/>")


class Everything(pl.LightningModule):
    """A VAE with two views, labels, scores, edges, samples and pictures; `rounds` make its step longer."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds, self.temperature, self.difficulty = rounds, 1.0, 1.0
        parts = [part for _ in range(6) for part in (nn.Linear(256, 256), nn.ReLU())]
        self.encoder = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), *parts, nn.Linear(256, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 256), nn.ReLU(), nn.Linear(256, 32))
        self.projector = nn.Sequential(nn.Linear(2 * LATENT, 128), nn.ReLU(), nn.Linear(128, 128))
        self.load = nn.Linear(256, 256)
        self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)
        self.register_buffer("decision_threshold", torch.tensor(0.5), persistent=False)

    def set_difficulty(self, difficulty: float) -> None:
        self.difficulty = difficulty

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        h = self.encoder(x)
        mean, logvar = h.chunk(2, -1)
        kl_per_dim = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)
        z = mean + self.difficulty * torch.randn_like(mean) * (0.5 * logvar).exp()
        recon = (self.decoder(z) - x).square().sum(-1)
        parts = {"recon": recon, "kl": kl_per_dim.sum(-1), "kl_per_dim": kl_per_dim, "mean": mean, "logvar": logvar}
        return {**parts, "h": h, "label": (x[:, 0].abs() * 5).long().clamp(max=9)}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        y = torch.ones(256, 256)
        for _ in range(self.rounds):
            y = torch.tanh(self.load(y))
        parts = self.terms(batch[0])
        views = {f"z{view}": self.projector(parts["h"] + 0.1 * torch.randn_like(parts["h"])) for view in (0, 1)}
        alike = nn.functional.cosine_similarity(views["z0"], views["z1"]).mean()
        loss = (parts["recon"] + self.kl_weight * parts["kl"]).mean() - alike + 0.0 * y.mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return {"loss": loss, **parts, **views}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        parts = self.terms(batch[0])
        self.log("val/loss", (parts["recon"] + parts["kl"]).mean())
        return {**parts, "scores": parts["mean"][:, 0], "targets": (batch[0][:, 0] > 0).long()}

    def edge_list(self) -> Edges:
        return Edges(self.decoder[-1].weight.detach())

    def generate_to_file(self, path: Any, n: int, seed: int = 0) -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        torch.save(self.decoder(torch.randn(n, LATENT, generator=generator)), path)
        return {"n": n}

    def figures(self) -> dict[str, Any]:
        return {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


def fit(rounds: int, callbacks: list[pl.Callback], epochs: int = EPOCHS, **kwargs: Any) -> None:
    """A fit in a directory that is thrown away, with a checkpoint each epoch and its prints unseen."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        saver = ModelCheckpoint(directory, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            num_sanity_val_steps=0,
            logger=SilentLogger(),
            default_root_dir=directory,
            enable_progress_bar=any(isinstance(c, suite.StableProgressBar) for c in callbacks),
            enable_model_summary=False,
            callbacks=[*callbacks, saver],
            **kwargs,
        )
        train, val = TensorDataset(torch.randn(EPOCH * BATCH, 32)), TensorDataset(torch.randn(EVALUATED, 32))
        trainer.fit(Everything(rounds), DataLoader(train, BATCH, shuffle=True), DataLoader(val, BATCH))


def measured(rounds: int, names: Iterable[str], of_an_entry: float = 0.0, **kwargs: Any) -> HookClock:
    """One fit with some callbacks."""
    callbacks = {name: CALLBACKS[name]() for name in names}
    clock = HookClock(Everything, callbacks, of_an_entry)
    with clock.watching():
        fit(rounds, [clock, *callbacks.values()], **kwargs)
    return clock


def ten_milliseconds() -> int:
    """Rounds of arithmetic at which a step takes about ten milliseconds of the thread."""
    measured(1, [NOTHING], epochs=1)  # the first fit of a process is slower than the others
    rounds = 1
    while measured(rounds, [NOTHING], epochs=1).rest_of_a_step < 9.5e-3:
        rounds += 1
    return rounds


def of_an_entry(rounds: int) -> float:
    """Seconds that the clock counts for entering and leaving a callback, with the caches as a training leaves them."""
    return median(measured(rounds, [NOTHING]).spent[NOTHING].per_step) / len(Idle.HOOKS)


def of_calling(rounds: int, others: int = 20) -> float:
    """Seconds that Lightning takes in a step to call the hooks of a callback that does nothing."""
    original, totals = call._call_callback_hooks, []
    for idle in (0, others):
        spent: list[float] = []
        call._call_callback_hooks = timed(original, spent, time.thread_time)
        try:
            fit(rounds, [Idle() for _ in range(idle)], epochs=1)
        finally:
            call._call_callback_hooks = original
        totals.append(sum(spent))
    return (totals[1] - totals[0]) / others / EPOCH


def of_lightnings_clip(rounds: int) -> float:
    """Seconds that a clip by norm takes in a step: Lightning's own, without a callback."""
    original, spent = Precision._clip_gradients, []
    Precision._clip_gradients = timed(original, spent, time.thread_time)
    try:
        fit(rounds, [], epochs=1, gradient_clip_val=1.0)
    finally:
        Precision._clip_gradients = original
    return median(spent)


def rows_of(names: Iterable[str], rounds: int, own: float, **kwargs: Any) -> Iterator[Row]:
    clocks = [measured(rounds, names, own, **kwargs) for _ in range(REPEATS)]
    step = median(clock.rest_of_a_step for clock in clocks)
    for name in names:
        shares = [100.0 * clock.spent[name].in_a_step(FIRST) / clock.rest_of_a_step for clock in clocks]
        yield share_row(name, shares)
        for label, seconds in (
            ("once in a fit", [clock.spent[name].once(FIRST) for clock in clocks]),
            ("an epoch, with its validation", [clock.spent[name].seconds["epoch"] / EPOCHS for clock in clocks]),
            ("a checkpoint", [clock.spent[name].seconds["save"] / EPOCHS for clock in clocks]),
        ):
            # in steps, for a millisecond of this machine is no claim
            if (steps := median(seconds) / step) >= 0.1:
                yield Row(f"    {label}", steps, "steps", repeats=REPEATS)


def share_row(name: str, shares: list[float]) -> Row:
    floor = None if name in WITHOUT_A_FLOOR else 2.0
    return Row(name, median(shares), "%", floor, "lower", "most", max(shares), REPEATS)


def of_a_batch(sampler: Iterable[Any], batches: int) -> float:
    """Seconds that a batch's indices take."""
    begin = time.thread_time()
    taken = sum(1 for _ in islice(sampler, batches))
    return (time.thread_time() - begin) / taken


def sampler_rows(step: float) -> Iterator[Row]:
    """Batches of a sampler of 100,000 samples."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(100, (100_000,), generator=generator)
    lengths = torch.randint(20, 500, (100_000,), generator=generator)
    for name, make in (
        ("EpisodicSampler, 5-way 1-shot", lambda: EpisodicSampler(labels, 5, 1, 15, 200)),
        ("LengthBucketBatchSampler, batches of 64", lambda: bucketed(lengths)),
    ):
        shares = [100.0 * of_a_batch(make(), 200) / step for _ in range(REPEATS)]
        yield share_row(name, shares)


def bucketed(lengths: Tensor) -> LengthBucketBatchSampler:
    """Batches of like lengths of a data set that is shuffled."""
    return LengthBucketBatchSampler(ShuffleSampler(range(len(lengths))), lengths, BATCH)  # type: ignore[arg-type]


def rows() -> Iterator[Row]:
    told = {name for names, _ in TOGETHER for name in names}
    if missing := {n for n in suite.__all__ if isinstance(getattr(suite, n), type)} - told:
        raise SystemExit(f"callback_costs: nothing says what {', '.join(sorted(missing))} costs")
    rounds = ten_milliseconds()
    own = of_an_entry(rounds)
    step = measured(rounds, [NOTHING], own).rest_of_a_step
    yield Row("a step without callbacks", 1e3 * step, "ms")
    yield Row("the clock's own, an entry", 100.0 * own / step, "%")
    calling = [100.0 * of_calling(rounds) / step for _ in range(REPEATS)]
    yield Row("Lightning's calls of a callback, in addition", median(calling), "%", repeats=REPEATS)
    clip = [100.0 * of_lightnings_clip(rounds) / step for _ in range(REPEATS)]
    yield Row("Trainer(gradient_clip_val=1.0), beside what looks at gradients", median(clip), "%", repeats=REPEATS)
    for names, kwargs in TOGETHER:
        yield from rows_of(names, rounds, own, **kwargs)
    yield from sampler_rows(step)


if __name__ == "__main__":
    raise SystemExit(run("callback_costs", rows()))
