"""How busy neutrinos keep a machine: empty slots, loops, gathers, files that are read again, waiting for data.

Functions that give rows, for `benchmarks.neutrinos`. Events are toy ones; times are CPU times, in turn with the peer's
in one process on one thread.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import torch
from hydra import compose, initialize_config_module
from torch import Tensor

from benchmarks.neutrinos_loops import assembled_one_by_one, forward_by_loops
from benchmarks.rows import Row
from benchmarks.shipped_experiments import outcome_of
from benchmarks.timing import cpu_seconds, in_turn
from stablelit.data import ShuffleSampler
from stablelit.families.neutrinos import NeutrinoDataModule, NeutrinoDirection, von_mises_fisher_nll
from stablelit.families.neutrinos.dataset import EventDataset
from stablelit.families.neutrinos.event_batch import Batch
from stablelit.families.neutrinos.generator import GeneratorSettings, write_event_files
from stablelit.run.build import build_module

EVENTS, BATCH = 5000, 256
# by loops an event takes about two seconds, whatever the size of its batch
STEP_BATCH, LOOPED, LOOP_REPEATS = 64, 12, 3
POSTMORTEM = {"name": "hierarchical", "preset": "postmortem"}


def data_of(folder: Path, **settings: Any) -> NeutrinoDataModule:
    """The toy events, generated once in `folder`."""
    data = NeutrinoDataModule(cache_dir=str(folder), **{"n_events": EVENTS, "batch_size": BATCH, **settings})
    data.prepare_data()
    data.setup()
    return data


def training_set(data: NeutrinoDataModule) -> EventDataset:
    dataset = data.training_events
    assert isinstance(dataset, EventDataset)
    return dataset


def slot_rows(folder: Path) -> Iterator[Row]:
    """The slots of T1: by size classes, and padded to the longest sensor of a batch.

    A cap on a sensor's pulses, as the data module has it, spares padding itself most of its waste: both are told.
    """
    uncapped = {"max_pulses_per_sensor": 100_000}
    for name, how, floor in (("no cap on a sensor", uncapped, 35), ("at most 64 of a sensor, the default", {}, None)):
        for batches, bucket in (("random batches", False), ("buckets", True)):
            counts = [_slots(batch) for batch in data_of(folder, bucket=bucket, **how).train_dataloader()]
            ratios = [padded / slots for slots, padded, _ in counts]
            least, n = ("worst batch", min(ratios)), len(counts)
            title = f"T1, {name}, {batches} of {BATCH}: padded slots over ours"
            yield Row(title, statistics.median(ratios), "x", floor, "higher", *least, n)
        over_pulses = statistics.median(slots / pulses for slots, _, pulses in counts)
        padded_over_pulses = statistics.median(padded / pulses for _, padded, pulses in counts)
        yield Row("    slots over pulses", over_pulses, "", None, "lower", "padded", padded_over_pulses, len(counts))


def _slots(batch: Batch) -> tuple[int, int, int]:
    """By size classes, padded to the longest, and pulses."""
    slots = sum(count << k for k, count in enumerate(batch["class_sizes"]))
    counts = batch["pulses_of_sensor"]
    return slots, len(counts) * int(counts.max()), len(batch["pulses"])


def gather_rows(folder: Path) -> Iterator[Row]:
    """A batch of the data module, at once and event by event.

    What an event by itself costs does not depend on its length, so the ratio does: the toy's events are as long as
    Kaggle's, 155 pulses against 160 on average, with half the yield of cascades.
    """
    half = folder / "half"
    write_event_files(half, EVENTS, 0, None, EVENTS // 10, False, GeneratorSettings(cascade_yield=0.5))
    as_kaggle = NeutrinoDataModule(path=str(half), batch_size=BATCH)
    as_kaggle.setup()
    for name, data, floor in (("as long as Kaggle's", as_kaggle, 5), ("of the toy", data_of(folder), None)):
        dataset = training_set(data)
        every = dataset.store.gather(dataset.rows)
        chosen = list(islice(iter(ShuffleSampler(dataset, mode="full")), BATCH))
        at_once = partial(dataset.__getitems__, chosen)
        one_by_one = partial(assembled_one_by_one, dataset, every, chosen)
        # where batches differ in anything, in whatever order of the keys, the comparison says nothing
        wrong = differences(at_once(), one_by_one())
        yield Row(f"events {name}, batches made at once and one by one: keys that differ", wrong, "", 0)
        slow, fast, ratio = in_turn(one_by_one, at_once, 15)
        beside = ("pulses an event", float(every.pulse_count.mean()))
        yield Row(f"    batch {BATCH}: events/s at once over one by one", ratio, "x", floor, "higher", *beside, 15)
        yield Row("    events/s", BATCH / fast, "", None, "higher", "one by one", BATCH / slow, 15)


def differences(batch: Batch, other: Batch) -> int:
    wrong = len(set(batch) ^ set(other))
    for name in set(batch) & set(other):
        a, b = batch[name], other[name]
        if isinstance(a, Tensor):
            wrong += a.shape != b.shape or not torch.allclose(a.double(), b.double(), atol=1e-5, rtol=1e-5)
        else:
            wrong += a != b
    return wrong


class Stepper:
    """One training step of a module, without a Trainer."""

    def __init__(self, module: NeutrinoDirection) -> None:
        self.module = module
        module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
        self.optimizer = torch.optim.AdamW(module.parameters(), 1e-4)

    def step(self, make: Callable[[], Batch]) -> None:
        self.optimizer.zero_grad()
        self.module.training_step(make(), 0)["loss"].backward()
        self.optimizer.step()


class ByLoops(torch.nn.Module):
    """A network that is asked by loops."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.width = network, network.width

    def forward(self, batch: Batch) -> Tensor:
        return forward_by_loops(self.network, batch)  # type: ignore[arg-type]

    def flops_per_batch(self, batch: Batch) -> float:
        return float(self.network.flops_per_batch(batch))


def stratified(batches: list[list[int]], lengths: np.ndarray, count: int) -> list[list[int]]:
    """`count` batches that stand for all: evenly spaced in order of their longest event."""
    ordered = sorted(batches, key=lambda batch: lengths[batch].max())
    return [ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)]


def step_rows(folder: Path) -> Iterator[Row]:
    """A whole training step of the post-mortem's network: batch, forward, loss, backward, optimizer."""
    data = data_of(folder, batch_size=STEP_BATCH)
    dataset = training_set(data)
    every = dataset.store.gather(dataset.rows)
    torch.manual_seed(0)
    module, looped = (NeutrinoDirection(POSTMORTEM, augment=()) for _ in range(2))
    looped.load_state_dict(module.state_dict())
    looped.network = ByLoops(looped.network)
    order = iter(ShuffleSampler(dataset, mode="full"))
    random = [list(islice(order, LOOPED)) for _ in range(LOOP_REPEATS)]
    at_once, one_by_one = dataset.__getitems__, partial(assembled_one_by_one, dataset, every)
    with torch.no_grad():
        difference = module(at_once(random[0])) - looped(one_by_one(random[0]))
    title = "post-mortem's network, at once and by loops: largest difference"
    yield Row(title, float(difference.abs().max()), "", 1e-4)
    ours, theirs = Stepper(module), Stepper(looped)
    buckets = stratified(list(data.train_dataloader().batch_sampler), dataset.lengths, 8)
    # once outside the count: memory and kernels are made ready
    ours.step(partial(at_once, buckets[-1]))
    times = []
    for indices in random:
        slow = cpu_seconds(partial(theirs.step, partial(one_by_one, indices))) / LOOPED
        same = cpu_seconds(partial(ours.step, partial(at_once, indices))) / LOOPED
        fast = sum(cpu_seconds(partial(ours.step, partial(at_once, b))) for b in buckets) / (STEP_BATCH * len(buckets))
        times.append((slow, same, fast))
    slow, same, fast = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    beside = ("loops, ms/event", slow)
    title = f"whole step: loops, random batches, over ours, buckets of {STEP_BATCH}; time an event"
    ratio = statistics.median(a / c for a, _, c in times)
    yield Row(title, ratio, "x", 10, "higher", "ours, ms/event", fast, LOOP_REPEATS)
    ratio = statistics.median(a / b for a, b, _ in times)
    yield Row(f"    both on the same random batches of {LOOPED}", ratio, "x", None, "higher", *beside, LOOP_REPEATS)


def likelihood_rows() -> Iterator[Row]:
    """The von Mises-Fisher loss in float32 beside fifty digits."""
    kappa = torch.logspace(-6, 6, 2401, dtype=torch.float64).float()
    zero = torch.zeros_like(kappa)
    f = torch.stack([kappa, zero, zero], dim=1).requires_grad_()
    # at a right angle f . t is 0: what is left is the normaliser, and along f its derivative
    t = torch.tensor([0.0, 1.0, 0.0]).expand_as(f)
    value = von_mises_fisher_nll(f, t)
    (gradient,) = torch.autograd.grad(value.sum(), f)
    off, slope_off = 0.0, 0.0
    with mpmath.workdps(50):
        for k, v, g in zip(kappa.tolist(), value.tolist(), gradient[:, 0].tolist(), strict=True):
            k = mpmath.mpf(k)
            exact, slope = mpmath.log(4 * mpmath.pi * mpmath.sinh(k) / k), mpmath.coth(k) - 1 / k
            off, slope_off = max(off, abs(v / exact - 1)), max(slope_off, abs(g / slope - 1))
    n = len(kappa)
    name = "von Mises-Fisher, float32, kappa 1e-6 to 1e6: relative error of value"
    yield Row(name, float(off), "", 1e-6, "lower", repeats=n)
    yield Row("    of gradient", float(slope_off), "", 1e-6, "lower", repeats=n)
    # a direction in float32 says its angle to 1e-7 rad or so, and the loss to kappa sin(angle) times that
    angle = 0.02
    aside = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    f64 = kappa.double()[:, None] * turn[0]
    t64 = (turn.T @ aside).expand_as(f64)
    with torch.no_grad():
        rounded = von_mises_fisher_nll(f64.float(), t64.float()).double()
        exact = von_mises_fisher_nll(f64, t64)
    told = float(((rounded - exact).abs() / (kappa.double() * np.sin(angle)).clamp_min(1.0)).max())
    yield Row("    loss at 0.02 rad, its input rounded: error over max(1, kappa sin(angle))", told, "", repeats=n)


def wait_rows(folder: Path) -> Iterator[Row]:
    """The share of a training's time that waits for data, and files read for every batch, of shipped experiments."""
    short = ("trainer.max_epochs=1", "trainer.limit_val_batches=1", "test=false", f"data.cache_dir={folder}")
    short += (f"data.n_events={EVENTS}", "++callbacks.input_pipeline.min_steps=1", "~callbacks.figures")
    for name, steps, floor in (("neutrinos", 24, 0.05), ("neutrinos_before", 3, None), ("neutrinos_after", 3, None)):
        how = (
            f"trainer.limit_train_batches={steps}",
            f"++callbacks.input_pipeline.warmup_steps={1 if steps < 9 else 4}",
        )
        (epoch,) = outcome_of(name, *short, *how, watched=True).history
        loads = epoch.get("perf/loads_per_batch")
        beside = ("", None) if loads is None else ("files read a batch", loads)
        title = f"+experiment={name}: share of its time that waits for data"
        yield Row(title, epoch["perf/data_wait_frac"], "", floor, "lower", *beside, steps)


def order_rows(folder: Path) -> Iterator[Row]:
    """The post-mortem's cliff: events out of files of which one is kept, by order; the sampler is ours in all rows."""
    in_memory = {"cache": "memory", "shuffle": "full"}
    one_file = {"cache": "files", "cache_files": 1}
    kinds = (
        ("all in memory, full shuffle", in_memory, None),
        ("files in their order, sequential", {**one_file, "shuffle": "sequential"}, None),
        ("files in a random order, block", {**one_file, "shuffle": "block"}, None),
        ("any event at random, full", {**one_file, "shuffle": "full"}, 2),
    )
    speeds: dict[str, float] = {}
    for name, how, most in kinds:
        loader = data_of(folder, bucket=False, **how).train_dataloader()
        drawn = 0

        def draw(loader: Any = loader, most: int | None = most) -> None:
            nonlocal drawn
            for batch in islice(loader, most):
                drawn += len(batch["id"])

        took = cpu_seconds(draw)
        speeds[name] = drawn / took
        beside = ("files read a batch", loader.dataset.chunk_loads / (drawn / BATCH))
        yield Row(
            f"one of {len(loader.dataset.chunk_sizes)} files kept: {name}", speeds[name], "/s", None, "higher", *beside
        )
    # a gather reads each file once a batch; asked for one event after another, as the post-mortem was, it cannot
    dataset = training_set(data_of(folder, bucket=False, **one_file))
    chosen = list(islice(iter(ShuffleSampler(dataset, mode="full")), BATCH))
    took = cpu_seconds(lambda: [dataset[i] for i in chosen])
    beside = ("files read a batch", dataset.chunk_loads)
    yield Row("    any event at random, one after another", BATCH / took, "/s", None, "higher", *beside)
    ratio = speeds[kinds[1][0]] * took / BATCH
    yield Row("    sequential over that", ratio, "x", None, "higher")


def batch_size_rows(folder: Path, n_events: int = 1024) -> Iterator[Row]:
    """Events a second of the default experiment's training step by batch size; on one core a larger one is no gain."""
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        module = build_module(compose("train", overrides=["+experiment=neutrinos"]))
    assert isinstance(module, NeutrinoDirection)
    stepper = Stepper(module)
    for size in (64, 256, 512, 1024):
        data = data_of(folder, batch_size=size, max_pulses_per_sensor=2, max_auxiliary=0)
        dataset = training_set(data)
        chosen = stratified(list(data.train_dataloader().batch_sampler), dataset.lengths, max(1, n_events // size))
        steps = [partial(dataset.__getitems__, indices) for indices in chosen]
        stepper.step(steps[-1])
        seconds = sum(cpu_seconds(partial(stepper.step, step)) for step in steps)
        filled = [sum(dataset.lengths[i]) / (len(i) * dataset.lengths[i].max()) for i in chosen]
        beside = ("sensors of padded places", statistics.fmean(filled))
        title = f"default experiment's step, batch {size}: events/s"
        yield Row(title, sum(map(len, chosen)) / seconds, "/s", None, "higher", *beside, len(steps))


def rows() -> Iterator[Row]:
    """All of them, on toy events that are generated for them."""
    with tempfile.TemporaryDirectory(prefix="stablelit-") as directory:
        folder = Path(directory)
        yield from slot_rows(folder)
        yield from step_rows(folder)
        yield from gather_rows(folder)
        yield from likelihood_rows()
        yield from wait_rows(folder)
        yield from order_rows(folder)
        yield from batch_size_rows(folder)
