"""What looking at gradients costs and how true the norm is; what an adaptive clip costs, remembers and survives.

The model is some two hundred small tensors, whose norms cost most for their size. AutoClip and ZClip are restated from
their papers and the authors' code, as far as they are compared. What stands for a speed is a share of a step
timed in the same process, in processor time, to which other processes add little.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import grad_norm
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.rows import Row, run
from benchmarks.skeleton import MemoryLogger, SaveAt, trainer
from benchmarks.timing import timed
from stablelit.callbacks import AdaptiveGradClip, EpochMeanCheckpoint, GradClipMonitor, RandomStateCheckpoint
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.data import ShuffleDataLoader, ShuffleSampler
from stablelit.functional.adaptive_clip import (
    add_to_histogram,
    clip_to_,
    histogram_percentile,
    new_histogram,
    new_z_state,
    zclip_step,
)
from stablelit.functional.gradients import total_norm

SEEDS = (0, 1, 2)
# a hundred batches an epoch, so that the end of one is in it
STEPS = 120
processor_time = time.thread_time
# what the monitor finds in these runs is not the reader's
SCRATCH = tempfile.TemporaryDirectory()


class ManyTensors(pl.LightningModule):
    """A residual stack of small layers, with arithmetic added until a step takes about ten milliseconds."""

    def __init__(self, layers: int = 48, width: int = 48, rounds: int = 0, optimizer: str = "adam") -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(layers))
        self.rounds, self.optimizer = rounds, optimizer
        self.load = nn.Linear(256, 256)

    def training_step(self, batch, batch_idx):
        x = y = batch[0]
        for layer in self.layers:
            y = y + 0.1 * torch.tanh(layer(y))
        extra = torch.ones(256, 256, dtype=x.dtype)
        for _ in range(self.rounds):
            extra = torch.tanh(self.load(extra))
        return (y - 2.0 * x.flip(-1)).square().sum(-1).mean() + 0.0 * extra.mean()

    def configure_optimizers(self):
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), 1e-2)
        return torch.optim.Adam(self.parameters(), 1e-3)


def data(n: int = 3200, width: int = 48, seed: int = 0) -> TensorDataset:
    return TensorDataset(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)))


def fit(callbacks: list[pl.Callback], steps: int, rounds: int = 0, batch: int = 32, **kwargs: Any) -> ManyTensors:
    torch.manual_seed(0)
    module = ManyTensors(rounds=rounds)
    trainer(max_steps=steps, max_epochs=-1, callbacks=callbacks, default_root_dir=SCRATCH.name, **kwargs).fit(
        module, DataLoader(data(), batch)
    )
    return module


class Stopwatch(pl.Callback):
    """The processor time of a whole step, from one batch's start to the next's."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.marks.append(processor_time())

    def steps(self) -> list[float]:
        return [b - a for a, b in zip(self.marks[20:], self.marks[21:], strict=False)]


class Clock(pl.Callback):
    """Times what runs around a clip, and torch's own clip inside it, and whatever hooks it is given."""

    def __init__(self, watched: pl.Callback | None = None, hooks: tuple[str, ...] = ()) -> None:
        self.around, self.inside, self.hooks = [], [], []
        for name in hooks:
            setattr(watched, name, timed(getattr(watched, name), self.hooks, processor_time))

    def on_train_start(self, trainer, pl_module):
        plugin = trainer.precision_plugin
        vars(plugin)["_clip_gradients"] = timed(plugin._clip_gradients, self.around, processor_time)
        self.torchs, torch.nn.utils.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_, None
        torch.nn.utils.clip_grad_norm_ = timed(self.torchs, self.inside, processor_time)

    def on_train_end(self, trainer, pl_module):
        torch.nn.utils.clip_grad_norm_ = self.torchs


class Peer(pl.Callback):
    """Measures a norm in the hook that the documentation names, as one would by hand."""

    def __init__(self, norm: Callable[[nn.Module], Any]) -> None:
        self.norm, self.spent = norm, []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        begin = processor_time()
        self.norm(pl_module)
        self.spent.append(processor_time() - begin)


def item_loop(module: nn.Module) -> float:
    return sum(p.grad.norm(2).item() ** 2 for p in module.parameters() if p.grad is not None) ** 0.5


def ten_milliseconds() -> int:
    """Rounds of added arithmetic for a step of about ten milliseconds, judged by the fastest steps."""
    rounds = 0
    while True:
        watch = Stopwatch()
        fit([watch], 50, rounds, gradient_clip_val=1.0)
        if statistics.quantiles(watch.steps(), n=10)[0] >= 9.5e-3:
            return rounds
        rounds += 1


def monitor_cost_rows(rounds: int) -> Iterator[Row]:
    steps, shares, without, plain = STEPS, [], [], []
    hooks = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_end")
    for _ in range(3):
        # what Lightning's own path around the clip takes is not the monitor's
        base = Clock()
        watch = Stopwatch()
        fit([watch, base], steps, rounds, gradient_clip_val=1.0)
        step = statistics.median(watch.steps())
        own = statistics.median(a - i for a, i in zip(base.around, base.inside, strict=True))
        monitor = GradClipMonitor()
        clock = Clock(monitor, hooks)
        fit([monitor, clock], steps, rounds, gradient_clip_val=1.0, logger=MemoryLogger())
        around = sum(clock.around) - sum(clock.inside) - steps * own
        shares.append(100.0 * (around + sum(clock.hooks)) / steps / step)
        without.append(step)
        monitor = GradClipMonitor()
        clock = Clock(monitor, hooks)
        fit([monitor, clock], steps, rounds, logger=MemoryLogger())
        plain.append(100.0 * (sum(clock.around) - steps * own + sum(clock.hooks)) / steps / step)
    step = statistics.median(without)
    tensors = len(list(ManyTensors().parameters()))
    name = f"GradClipMonitor, clipping on, share of a step of {1e3 * step:.1f} ms"
    peers = {}
    for peer, norm in {"Lightning's grad_norm": lambda m: grad_norm(m, 2), ".item() loop": item_loop}.items():
        found = []
        for _ in range(2):
            callback = Peer(norm)
            fit([callback], steps, rounds, gradient_clip_val=1.0)
            found.append(100.0 * statistics.median(callback.spent) / step)
        peers[peer] = statistics.median(found)
    yield Row(name, statistics.median(shares), "%", 1.0, "lower", *next(iter(peers.items())), repeats=3)
    name = f"    the same, of {tensors} tensors"
    yield Row(name, statistics.median(shares), "%", None, "lower", *list(peers.items())[1], repeats=3)
    yield Row("    nothing clips: it measures the norm itself", statistics.median(plain), "%", repeats=3)


def unchanged_rows() -> Iterator[Row]:
    different = 0
    for kwargs in ({"gradient_clip_val": 1.0}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}, {}):
        plain = fit([], 100, **kwargs)
        watched = fit([GradClipMonitor("parameter")], 100, **kwargs)
        pairs = zip(plain.parameters(), watched.parameters(), strict=True)
        different += sum(not torch.equal(a, b) for a, b in pairs)
    yield Row("weights that differ with GradClipMonitor (norm, value, no clip)", different, "", 0, repeats=3)


class Listening(pl.Callback):
    """Compares the norm told with one in float64, of the gradients as backward left them."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.own: list[float] = []
        self.true: list[float] = []

    def setup(self, trainer, pl_module, stage):
        self.tap = GradientTap.on(trainer, pl_module, self.hear)

    def hear(self, event):
        self.told.append(float(event.norm))
        self.own.append(float(event.own_norm))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.true.append(exact_norm([p.grad for p in pl_module.parameters() if p.grad is not None]))

    def teardown(self, trainer, pl_module, stage):
        self.tap.release(self.hear)

    def errors(self) -> tuple[float, float]:
        return (
            max(abs(a / b - 1) for a, b in zip(self.told, self.true, strict=True)),
            max(abs(a / b - 1) for a, b in zip(self.own, self.true, strict=True)),
        )


def exact_norm(tensors: list[Tensor]) -> float:
    return math.sqrt(math.fsum(float(t.double().square().sum()) for t in tensors))


def norm_rows() -> Iterator[Row]:
    for precision, floor in (("32-true", 1e-6), ("bf16-true", 1e-5)):
        listening = Listening()
        fit([listening], 50, gradient_clip_val=1.0, precision=precision)
        told, own = listening.errors()
        name = f"norm before the clip against float64, {precision}: worst error"
        yield Row(name, told, "", floor, "lower", "torch's own", own, 50)
    half = [torch.full((300, 300), 300.0, dtype=torch.float16)]
    true = exact_norm(half)
    lost = not math.isfinite(float(torch.nn.utils.get_total_norm(half)))
    name = f"float16, norm {true:.3g}" + (", infinite in torch's own" if lost else "")
    yield Row(name, abs(float(total_norm(half)) / true - 1), "", 1e-5)
    large = [torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))]
    true = exact_norm(large)
    own = abs(float(torch.nn.utils.get_total_norm(large)) / true - 1)
    error = abs(float(total_norm(large)) / true - 1)
    yield Row("one tensor of 10 million elements, float32: error", error, "", 1e-6, "lower", "torch's own", own)


class RestatedAutoClip:
    """AutoClip as its authors run it: a list of all norms, and numpy's percentile of it in every step."""

    def __init__(self, norms: list[float], percentile: float = 10.0) -> None:
        self.norms, self.percentile = list(norms), percentile

    def step(self, parameters: list[nn.Parameter]) -> None:
        self.norms.append(sum(p.grad.norm(2).item() ** 2 for p in parameters) ** 0.5)
        torch.nn.utils.clip_grad_norm_(parameters, float(np.percentile(self.norms, self.percentile)))


class RestatedZClip:
    """ZClip's rule, with Python floats that one NaN stays in."""

    def __init__(self, z0: float = 2.5, alpha: float = 0.97, warmup: int = 25) -> None:
        self.z0, self.alpha, self.warmup, self.norms, self.mean, self.var = z0, alpha, warmup, [], math.nan, math.nan

    def step(self, norm: float) -> float:
        if len(self.norms) < self.warmup:
            self.norms.append(norm)
            self.mean, self.var = float(np.mean(self.norms)), float(np.var(self.norms))
            return math.inf
        std = math.sqrt(self.var) if self.var == self.var else math.nan
        z = (norm - self.mean) / std
        threshold = self.mean + self.z0**2 / z * std if z > self.z0 else math.inf
        # "clip value if there is one, else the norm"
        effective = threshold if z > self.z0 else norm
        self.mean = self.alpha * self.mean + (1 - self.alpha) * effective
        self.var = self.alpha * self.var + (1 - self.alpha) * (effective - self.mean) ** 2
        return threshold


def norms_of_a_run(steps: int, seed: int = 0) -> np.ndarray:
    """Norms as training makes them: falling, log-normal, with spikes."""
    generator = np.random.default_rng(seed)
    norms = np.exp(0.3 * generator.standard_normal(steps)) * (1.0 + 9.0 / np.sqrt(1.0 + np.arange(steps)))
    norms[generator.random(steps) < 0.01] *= 30.0
    return norms


def milliseconds(function: Callable[[], Any], before: Callable[[], Any], repeats: int = 40) -> float:
    found = []
    for _ in range(repeats):
        before()
        begin = processor_time()
        function()
        found.append(processor_time() - begin)
    return 1e3 * statistics.median(found)


def filled_histogram(norms: np.ndarray) -> Tensor:
    counts = new_histogram()
    for norm in norms:
        add_to_histogram(counts, torch.tensor(float(norm)))
    return counts


def adaptive_cost_rows() -> Iterator[Row]:
    parameters = list(ManyTensors().parameters())
    fresh = [torch.randn_like(parameter) for parameter in parameters]
    norms = norms_of_a_run(100_000)
    histories = (norms[:100], norms)
    counts = [filled_histogram(history) for history in histories]

    def gradients() -> None:
        for parameter, gradient in zip(parameters, fresh, strict=True):
            parameter.grad = gradient.clone()

    def step(counts: Tensor) -> None:
        held = [p.grad for p in parameters]
        norm = total_norm(held)
        add_to_histogram(counts, norm)
        clip_to_(held, norm, histogram_percentile(counts, 10.0))

    ours, theirs = [], []
    for _ in range(5):
        ours.append([milliseconds(lambda c=c: step(c), gradients) for c in counts])
        peers = [RestatedAutoClip(history.tolist()) for history in histories]
        theirs.append([milliseconds(lambda peer=peer: peer.step(parameters), gradients) for peer in peers])
    ratio, peer = (statistics.median(late / early for early, late in costs) for costs in (ours, theirs))
    name = "AdaptiveGradClip(autoclip): cost at step 100,000 over step 100"
    yield Row(name, ratio, "x", 1.2, "lower", "restated AutoClip", peer, 5)
    late = statistics.median(mine[1] / its[1] for mine, its in zip(ours, theirs, strict=True))
    yield Row("    cost of its step 100,000 over that of the restated AutoClip", late, "x", repeats=5)


def adaptive_share_rows(rounds: int) -> Iterator[Row]:
    watch, clock = Stopwatch(), Clock()
    fit([watch, clock], STEPS, rounds, gradient_clip_val=1.0)
    step, peer = statistics.median(watch.steps()), 100.0 * statistics.median(clock.inside)
    for mode in ("autoclip", "zclip", "agc"):
        shares = []
        for _ in range(3):
            clip = AdaptiveGradClip(mode, exclude=["load"] if mode == "agc" else None)
            clock = Clock(clip, ("on_before_optimizer_step", "on_train_batch_end"))
            fit([clip, clock], STEPS, rounds, logger=MemoryLogger())
            shares.append(100.0 * sum(clock.hooks) / STEPS / step)
        name = f"AdaptiveGradClip({mode}), norm and clip: share of a step of {1e3 * step:.1f} ms"
        yield Row(name, statistics.median(shares), "%", None, "lower", "torch's clip", peer / step, 3)


def adaptive_resume_rows() -> Iterator[Row]:
    lines, weights, expected, records = 0, 0, 0, data(640)
    for mode in ("autoclip", "zclip", "agc"):

        def one(ckpt: Path | None = None, save: SaveAt | None = None, mode: Any = mode) -> tuple[Any, list[Tensor]]:
            logger = MemoryLogger()
            clip = AdaptiveGradClip(mode, exclude=["load"] if mode == "agc" else None)
            extra = [save] if save else []
            callbacks = [clip, GradClipMonitor(), RandomStateCheckpoint(), EpochMeanCheckpoint(), *extra]
            root = {"default_root_dir": SCRATCH.name}
            more = {"enable_checkpointing": True} if save else {}
            module = ManyTensors(layers=4)
            trainer(max_epochs=4, log_every_n_steps=1, logger=logger, callbacks=callbacks, **root, **more).fit(
                module, ShuffleDataLoader(records, sampler=ShuffleSampler(records), batch_size=32), ckpt_path=ckpt
            )
            return logger.lines, list(module.parameters())

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "middle.ckpt"
            torch.manual_seed(0)
            whole, final = one(save=SaveAt(43, path))
            torch.manual_seed(99)
            resumed, again = one(ckpt=path)
        rest = [line for line in whole if line[0] >= 43]
        expected += len(rest)
        lines += sum(a != b for a, b in zip(rest, resumed, strict=True))
        weights += sum(not torch.equal(a, b) for a, b in zip(final, again, strict=True))
    yield Row(f"resume at step 43 of 80: logged lines that differ, of {expected}", lines, "", 0, repeats=3)
    yield Row("    weight tensors that differ", weights, "", 0, repeats=3)


def decisions(norms: np.ndarray, restated: bool) -> list[bool]:
    """Whether each norm would be clipped."""
    if restated:
        zclip = RestatedZClip()
        return [norm > zclip.step(float(norm)) for norm in norms]
    state, found = new_z_state(), []
    for norm in norms:
        threshold, state = zclip_step(state, torch.tensor(float(norm)))
        found.append(float(norm) > float(threshold))
    return found


def recovery_rows() -> Iterator[Row]:
    lost, peer = [], []
    for seed in SEEDS:
        norms = norms_of_a_run(1200, seed)
        spoiled = norms.copy()
        spoiled[200] = math.nan
        without = np.delete(norms, 200)
        for restated, results in ((False, lost), (True, peer)):
            clean = decisions(without, restated)[200:]
            after = decisions(spoiled, restated)[201:]
            wrong = [step + 1 for step, (a, b) in enumerate(zip(clean, after, strict=True)) if a != b]
            results.append(wrong[-1] if wrong else 0)
    name = "steps after one NaN until it clips as if there had been none, of 999"
    yield Row(name, max(lost), "", 0, "lower", "restated ZClip", statistics.median(peer), len(SEEDS))


def percentile_rows() -> Iterator[Row]:
    for percentile in (10.0, 50.0, 90.0):
        worst = 0.0
        for seed in SEEDS:
            norms, counts = norms_of_a_run(10_000, seed), new_histogram()
            for step, norm in enumerate(norms, start=1):
                add_to_histogram(counts, torch.tensor(float(norm)))
                if step < 200 or step % 100 == 0:
                    exact = float(np.percentile(norms[:step], percentile))
                    worst = max(worst, abs(float(histogram_percentile(counts, percentile)) / exact - 1))
        yield Row(
            f"percentile {percentile:g} of 10,000 norms from the histogram: worst error", worst, "", 0.006, repeats=3
        )


def rows() -> Iterator[Row]:
    rounds = ten_milliseconds()
    yield from monitor_cost_rows(rounds)
    yield from unchanged_rows()
    yield from norm_rows()
    yield from adaptive_cost_rows()
    yield from adaptive_share_rows(rounds)
    yield from adaptive_resume_rows()
    yield from recovery_rows()
    yield from percentile_rows()


if __name__ == "__main__":
    raise SystemExit(run("gradients", rows()))
