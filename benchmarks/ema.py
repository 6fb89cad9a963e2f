"""What averaged weights cost a step, and what is averaged, validated and saved; Lightning's EMAWeightAveraging beside.

The network is a toy whose weight counts its optimizer steps, so that every right answer is known.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.guard import Deep, busy_fit, fastest
from benchmarks.rows import Row, run
from benchmarks.shuffle_cost import timed
from stablelit import EMACallback
from stablelit.callbacks._weight_average import WeightAverage

HOOKS = ("on_train_batch_start", "on_train_batch_end")


class Counting(pl.LightningModule):
    """Its weight and its buffer are the number of optimizer steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("count", torch.tensor(0))
        self.validated: list[float] = []
        self.fail = False

    def training_step(self, batch, batch_idx):
        self.count += 1
        return -self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(float(self.weight))
        if self.fail and not self.trainer.sanity_checking:
            raise RuntimeError("broken on purpose")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def count(callback: pl.Callback, fail: bool = False) -> Counting:
    """Twenty steps with a validation after every ten."""
    module, data = Counting(), DataLoader(TensorDataset(torch.zeros(10, 1)))
    module.fail = fail
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=2,
            num_sanity_val_steps=0,
            limit_val_batches=1,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[callback],
            **quiet,
        )
        try:
            trainer.fit(module, data, data)
        except RuntimeError:
            if not fail:
                raise
        return module


def answer_rows() -> Iterator[Row]:
    def row(name: str, value: float, floor: float, better: Literal["lower", "higher"], theirs: float) -> Row:
        return Row(name, value, "", floor, better, "EMAWeightAveraging", theirs)

    ours, theirs = count(EMACallback()), count(EMAWeightAveraging(decay=0.9999))
    off = abs(int(theirs.count) - 20)
    yield row("a counter that should be 20 after the fit is off by", abs(int(ours.count) - 20), 0, "lower", off)
    name = "20 steps at decay 0.9999: the average of 1, 2, ... 20"
    yield row(name, float(ours.weight), 15, "higher", float(theirs.weight))
    ours = count(EMACallback(0.9, delay="15st"))
    theirs = count(EMAWeightAveraging(decay=0.9, update_starting_at_step=15))
    name = "begun at step 15: weights validated at step 10 (trained: 10)"
    yield row(name, ours.validated[0], 10, "higher", theirs.validated[0])
    ours, theirs = count(EMACallback(0.9), fail=True), count(EMAWeightAveraging(decay=0.9), fail=True)
    off = abs(float(theirs.weight) - 10)
    yield row("an exception in validation: weights left off by", abs(float(ours.weight) - 10), 0, "lower", off)


class Many(Deep):
    """Three hundred tensors of parameters more."""

    def __init__(self, rounds: int) -> None:
        super().__init__(rounds)
        self.more = nn.ParameterList(torch.zeros(64) for _ in range(300))


def spent_a_step(callback: pl.Callback, rounds: int) -> tuple[float, float]:
    """Seconds a step inside the callback, and of the whole step."""
    spent: dict[str, list[float]] = {}
    for name in HOOKS:
        spent[name] = []
        setattr(callback, name, timed(getattr(callback, name), spent[name]))
    step = busy_fit(rounds, 220, [callback])
    return sum(fastest(seconds) for seconds in spent.values()), step


def cost_rows() -> Iterator[Row]:
    busy_fit(1, 60, [])
    rounds = 1
    while busy_fit(rounds, 60, []) < 9.5e-3:
        rounds += 1
    shares, their_shares, ratios = [], [], []
    for _ in range(5):
        (ours, step), (theirs, _) = spent_a_step(EMACallback(), rounds), spent_a_step(EMAWeightAveraging(), rounds)
        shares.append(100.0 * ours / step)
        their_shares.append(100.0 * theirs / step)
        ratios.append(theirs / ours)
    share, their_share = statistics.median(shares), statistics.median(their_shares)
    name = "50 tensors of parameters: share of a step of about 10 ms"
    yield Row(name, share, "%", None, "lower", "EMAWeightAveraging", their_share, 5)
    yield Row("    EMAWeightAveraging's time over ours", statistics.median(ratios), "x", 2.0, "higher", repeats=5)


def update_rows() -> Iterator[Row]:
    """The update alone, without a Trainer around it."""
    module = Many(0)
    average = WeightAverage("benchmark")
    average.follow(module)
    average.update(0.0)
    plain, fused = (
        AveragedModel(module, avg_fn=get_ema_avg_fn(0.999)),
        AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.999)),
    )
    ways = {
        "ours": lambda: (average.follow_unfrozen(module), average.update(0.999)),
        "avg_fn": lambda: plain.update_parameters(module),
        "multi_avg_fn": lambda: fused.update_parameters(module),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(300), ways.items()):
        began = time.perf_counter()
        way()
        seconds[name].append(time.perf_counter() - began)
    ours = fastest(seconds["ours"])
    for name in ("avg_fn", "multi_avg_fn"):
        ratio = fastest(seconds[name]) / ours
        yield Row(
            f"350 tensors: time of torch's AveragedModel({name}) over ours", ratio, "x", 1.0, "higher", repeats=300
        )


def rows() -> Iterator[Row]:
    yield from answer_rows()
    yield from update_rows()
    yield from cost_rows()


if __name__ == "__main__":
    raise SystemExit(run("ema", rows()))
