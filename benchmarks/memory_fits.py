"""Long fits of a small network with many callbacks at once, and how much memory they hold after each stretch.

Each fit runs in a process of its own, forked, so that none inherits another's heap. Memory is the resident set of
/proc/self/statm, after a garbage collection and after glibc has given back what it holds free (`malloc_trim`): what is
left is held by somebody.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import stablelit.callbacks as suite
from stablelit import PlateauGate, ShuffleDataLoader, ShuffleSampler, TrainingDoctor
from stablelit.run.record import RunRecorder

WIDTH, BATCH, VALIDATION_ROWS = 6, 8, 16
MIB = float(1 << 20)
# the first picture, which brings matplotlib and its fonts, belongs to the warm-up
_FIGURES_EVERY = 3
Callbacks = Callable[[], list[Any]]


class Edges:
    """A learned graph that writes itself."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def to_csv(self, path: Any) -> None:
        Path(path).write_text("\n".join(",".join(map(str, row)) for row in self.scores.tolist()), encoding="utf-8")

    def to_graphml(self, path: Any) -> None:
        Path(path).write_text("<graphml/>", encoding="utf-8")


class Everything(pl.LightningModule):
    """A VAE of a hundred parameters with all that a callback may ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH // 2, WIDTH)
        for name, value in (("kl_weight", 1.0), ("other_weight", 1.0), ("decision_threshold", 0.5)):
            self.register_buffer(name, torch.tensor(value), persistent=False)
        self.temperature, self.difficulty = 1.0, 1.0

    def set_difficulty(self, difficulty: float) -> None:
        self.difficulty = difficulty

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        kl_per_dim = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return 0.5 * ((self.decoder(z) - x) ** 2).sum(-1), kl_per_dim

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        (x,) = batch
        recon, kl_per_dim = self._terms(x)
        kl = kl_per_dim.sum(-1)
        loss = (recon + self.kl_weight * kl).mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        views = {"z0": kl_per_dim, "z1": kl_per_dim + 0.1 * self.decoder.weight.mean(dim=0)}
        return {"loss": loss, "recon": recon, "kl": kl, "kl_per_dim": kl_per_dim, **views, **self._labelled(x)}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        (x,) = batch
        recon, kl_per_dim = self._terms(x)
        self.log("val/loss", (recon + kl_per_dim.sum(-1)).mean(), prog_bar=True)
        return {"scores": self.encoder(x)[:, 0], "targets": (x.sum(-1) > 0).long(), **self._labelled(x)}

    def _labelled(self, x: Tensor) -> dict[str, Tensor]:
        return {"h": self.encoder(x), "label": (x[:, 0] > 0).long()}

    def edge_list(self) -> Edges:
        return Edges(self.encoder.weight.detach().abs())

    def generate_to_file(self, path: str, n: int, seed: int = 0) -> dict[str, Any]:
        torch.manual_seed(seed)
        torch.save(self.decoder(torch.randn(n, WIDTH // 2)), path)
        return {"n": n}

    def figures(self) -> dict[str, Any]:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1])
        return {"line": figure}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


def none() -> list[Any]:
    """Lightning alone."""
    return []


def everything() -> list[Any]:
    """One of every kind."""
    return [
        *_beside_any(),
        suite.KLCapCallback(kl_target=1.0, warmup=100),
        suite.CurriculumCallback("cosine", duration="0.5dur"),
        suite.GradClipMonitor("module", components_every_n_steps=50),
        suite.NonFiniteGuard(),
        suite.EMACallback(half_life="0.2dur", validate="both"),
        suite.ThresholdSweepValidation(kind="samples"),
    ]


def everything_else() -> list[Any]:
    """The other way of those that have one and stand in each other's way."""
    gate = PlateauGate("val/loss", patience=1, max_hold=1)
    return [
        *_beside_any(),
        suite.KLCapCallback(mode="capacity", kl_target=1.0, warmup="1ep"),
        suite.CurriculumCallback(duration="1ep", gate=gate, targets=["module", "other_weight"]),
        suite.AdaptiveGradClip("zclip"),
        suite.NonFiniteGuard("rollback", every="40st"),
        suite.EMACallback(0.9, every=2, after_fit="raw"),
    ]


def _beside_any() -> list[Any]:
    return [
        suite.ScalarSchedule("temperature", 1.0, 0.1, duration="0.5dur"),
        suite.ContrastiveHealthMonitor(every_n_steps=50, rank_rows=64),
        suite.GradientReachCheck({"recon": ["encoder", "decoder.weight"], "kl": "encoder"}),
        suite.HistoryWriter(),
        suite.OnlineKNN(k=5, bank_rows=64),
        suite.OnlineLinearProbe(n_classes=2),
        suite.PosteriorMonitor(gradient_every=50),
        suite.RandomStateCheckpoint(),
        suite.EdgeListWriter(print_table=False),
        suite.PartWriter(),
        suite.EpochMeanCheckpoint(),
        suite.EpochPrinter(always=True),
        suite.StableProgressBar(),
        suite.DeviceMemoryMonitor(),
        suite.InputPipelineMonitor(),
        suite.InterruptCheckpoint(),
        suite.SampleWriter(every="0.05dur", n=3, suffix=".pt"),
        suite.StepCheckpoint([100, "0.5dur"]),
        suite.ShuffleCallback(),
        suite.FigureWriter(curves={"loss": [["train/loss", "val/loss"]]}, every_n_epochs=_FIGURES_EVERY),
        TrainingDoctor(),
        RunRecorder("val/loss"),
    ]


@dataclass(frozen=True)
class Held:
    """Memory while a fit ran.

    Args:
        steps: at which it was read.
        mib: resident, in MiB.
        files_mib: of all files that the fit left.
        culprits: lines of code whose allocations grew most, where they were traced.
    """

    steps: list[int]
    mib: list[float]
    files_mib: float
    culprits: list[str]

    @property
    def growth(self) -> float:
        """MiB from the first reading, which ends the warm-up, to the last."""
        return self.mib[-1] - self.mib[0]


class Reader(pl.Callback):
    """Reads the memory after `warm_up` steps and then ten times to the end."""

    def __init__(self, warm_up: int, steps: int, trace: bool) -> None:
        stretch = (steps - warm_up) // 10
        self._at = set(range(warm_up, steps + 1, stretch))
        self.steps: list[int] = []
        self.mib: list[float] = []
        self._trace, self._before = trace, None
        self.culprits: list[str] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step not in self._at:
            return
        self.steps.append(trainer.global_step)
        self.mib.append(resident_mib())
        if self._trace:
            self._compare(last=trainer.global_step == max(self._at))

    def _compare(self, last: bool) -> None:
        if self._before is None:
            tracemalloc.start(8)
            self._before = tracemalloc.take_snapshot()
        elif last:
            grown = tracemalloc.take_snapshot().compare_to(self._before, "lineno")
            ours = [one for one in grown if "tracemalloc" not in str(one.traceback)]
            self.culprits = [f"{one.size_diff / 1024:.1f} KiB  {one.traceback}" for one in ours[:15]]


def resident_mib() -> float:
    """What this process holds."""
    gc.collect()
    # absent from a C library that is not glibc
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def held(callbacks: Callbacks, warm_up: int, steps: int, per_epoch: int, trace: bool = False) -> Held:
    """Fits in a process of its own and says what that held.

    Args:
        callbacks: makes them.
        warm_up: optimizer steps before the first reading.
        steps: of the whole fit.
        per_epoch: steps of an epoch.
        trace: look for the lines of code that allocate and keep.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_fit, args=(send, callbacks, warm_up, steps, per_epoch, trace))
    child.start()
    send.close()
    try:
        answer: Held = receive.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"the fit ended with exit code {child.exitcode}") from None
    child.join()
    return answer


def _fit(send: Any, callbacks: Callbacks, warm_up: int, steps: int, per_epoch: int, trace: bool) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(BATCH * per_epoch, WIDTH))
    reader = Reader(warm_up, steps, trace)
    made = callbacks()
    with tempfile.TemporaryDirectory(prefix="stablelit-memory-") as folder:
        checkpoint = pl.callbacks.ModelCheckpoint(folder, monitor="val/loss", save_last=True)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-(-steps // per_epoch),
            callbacks=[*made, checkpoint, reader],
            logger=pl.loggers.TensorBoardLogger(folder, name="", version=""),
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in made),
            enable_model_summary=False,
            default_root_dir=folder,
        )
        train = ShuffleDataLoader(data, sampler=ShuffleSampler(data), batch_size=BATCH)
        validation = DataLoader(TensorDataset(torch.randn(VALIDATION_ROWS, WIDTH)), batch_size=BATCH)
        trainer.fit(Everything(), train, validation)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / MIB
    send.send(Held(reader.steps, reader.mib, size, reader.culprits))
