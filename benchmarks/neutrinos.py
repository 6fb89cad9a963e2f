"""What the neutrinos family promises: directions in a fixed number of steps, beside what costs nothing, and speed.

Events are generated: a TOY, no statement about IceCube. The shipped experiment runs as a person would run it; the flat
transformer and DynEdge get the same events and as many steps as fit into the same CPU time. One thread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache

from benchmarks.neutrinos_speed import rows as speed_rows
from benchmarks.rows import Row, run
from benchmarks.shipped_experiments import Outcome, outcome_of

SEEDS = (0, 1, 2)
# they have no way around the pulses, so they see more of them
_PULSES = ("data.max_pulses=256", "data.max_pulses_per_sensor=64")
PEERS = {
    "flat transformer": ("model/network=flat", *_PULSES),
    # it has no blocks, whose matrices are Muon's
    "DynEdge, a quarter of its paper's width": ("model/network=dynedge_small", "optimizer=adamw", *_PULSES),
}
# of the two runs whose difference is what a step costs
FEW_STEPS, MORE_STEPS = 10, 40
STEPS_OF_EPOCH = 562
"""Of ours: a quarter of 72,000 events in batches of 32."""
_CACHE = tempfile.TemporaryDirectory(prefix="stablelit-")


def timed(*overrides: str) -> tuple[Outcome, float]:
    begin = time.process_time()
    outcome = outcome_of("neutrinos", f"data.cache_dir={_CACHE.name}", *overrides)
    return outcome, time.process_time() - begin


def short(steps: int) -> tuple[str, ...]:
    """So many steps and hardly anything else."""
    quick = ("trainer.max_epochs=1", "trainer.limit_val_batches=1", "trainer.num_sanity_val_steps=0", "test=false")
    return (f"trainer.limit_train_batches={steps}", *quick)


@cache
def shipped(seed: int) -> tuple[Outcome, float]:
    # once before, so that generating the events is not in the time
    timed(f"seed={seed}", *short(1))
    return timed(f"seed={seed}")


def step_seconds(*overrides: str) -> float:
    """CPU seconds of a training step: of 30 more steps, over 30."""
    few, more = (timed(*overrides, *short(steps))[1] for steps in (FEW_STEPS, MORE_STEPS))
    return (more - few) / (MORE_STEPS - FEW_STEPS)


@cache
def cost_of(name: str) -> float:
    """A step of a peer over a step of ours, by turns: what else the machine does falls on both."""
    return statistics.median(step_seconds(*PEERS[name]) / step_seconds() for _ in range(3))


@cache
def peer(name: str, seed: int) -> tuple[Outcome, float, int]:
    """What it came to, its CPU seconds, and its steps: as many as take the time of ours."""
    of_epoch = max(1, round(STEPS_OF_EPOCH / cost_of(name)))
    found, took = timed(f"seed={seed}", *PEERS[name], f"trainer.limit_train_batches={of_epoch}")
    return found, took, of_epoch * len(found.history)


def median_of(key: str, outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.test[f"test/{key}"] for outcome in outcomes)


def accuracy_rows() -> Iterator[Row]:
    n = len(SEEDS)
    ours = [shipped(seed)[0] for seed in SEEDS]
    seconds = statistics.median(shipped(seed)[1] for seed in SEEDS)
    mean = "angular_error_mean_rad"
    beside = ("line fit", median_of(f"{mean}_baseline", ours))
    yield Row("mean angular error of the shipped experiment", median_of(mean, ours), "rad", 0.58, "lower", *beside, n)
    worst = max(outcome.test[f"test/{mean}"] for outcome in ours)
    yield Row(
        "    its worst seed", worst, "rad", None, "lower", "a constant", median_of("constant_error_mean_rad", ours), n
    )
    yield Row("    its CPU seconds, validation and test with them", seconds, "s", repeats=n)
    yield Row("    median angular error", median_of("angular_error_median_rad", ours), "rad", repeats=n)
    beside = ("told", 0.68)
    yield Row("    events within the cone of 68 %", median_of("coverage_68", ours), "", None, "higher", *beside, n)
    for name in PEERS:
        found = [peer(name, seed) for seed in SEEDS]
        steps = statistics.median(steps for _, _, steps in found)
        score = median_of(mean, [outcome for outcome, _, _ in found])
        took = ("its CPU seconds", statistics.median(seconds for _, seconds, _ in found))
        yield Row(f"    {name}, {steps:g} steps in that time", score, "rad", None, "lower", *took, n)


def rows() -> Iterator[Row]:
    yield from accuracy_rows()
    yield from speed_rows()


if __name__ == "__main__":
    sys.exit(run("neutrinos", rows()))
