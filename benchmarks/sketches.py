"""What the sketches family promises: losses, augmentation, a monitor that is right, and what is learned without labels.

Generated sketches are a TOY. Real characters are Omniglot's "small 1" (136 characters of 5 alphabets), read from the
folder in STABLELIT_TEST_DATA; without it those rows are left out, and said to be. One thread.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.rows import Row, run
from benchmarks.shipped_experiments import Outcome, outcome_of
from benchmarks.sketches_augment import rows as augment_rows
from benchmarks.sketches_loss import rows as loss_rows
from benchmarks.sketches_monitor import rows as monitor_rows

SEEDS = (0, 1, 2)
_DATA = Path(os.environ.get("STABLELIT_TEST_DATA", "../shared/data")) / "sketches" / "images_small1.zip"


@cache
def shipped(experiment: str, seed: int, *overrides: str) -> Outcome:
    return outcome_of(experiment, f"seed={seed}", *overrides)


def few_shot(outcomes: list[Outcome], name: str, floor: float | None, what: str) -> Iterator[Row]:
    """A row of few-shot accuracy: the gain over an untrained encoder, seed by seed, and both with their intervals."""
    score = f"test/few_shot_{name}"
    n = len(outcomes)

    def median_of(key: str) -> float:
        return statistics.median(outcome.test[key] for outcome in outcomes)

    gains = [outcome.test[score] - outcome.test[f"{score}_baseline"] for outcome in outcomes]
    floors = {"floor": floor, "better": "higher"}
    yield Row(f"{what}: {name} above an untrained encoder", statistics.median(gains), "", **floors, repeats=n)
    yield Row(f"{what}: {name} above an untrained encoder, worst seed", min(gains), "", **floors, repeats=n)
    rows = {"trained": "", "untrained": "_baseline", "pixels": "_pixels"}
    for label, suffix in rows.items():
        chance = median_of(f"{score}_chance")
        yield Row(
            f"{what}: {name}, {label}", median_of(score + suffix), "", peer="chance", peer_value=chance, repeats=n
        )
        interval = median_of(f"{score}{suffix}_interval")
        yield Row(f"{what}: {name}, {label}, half of the 95 % interval", interval, "", repeats=n)


def learned_rows() -> Iterator[Row]:
    if _DATA.is_file():
        real = [shipped("sketches_omniglot", seed, f"data.path={_DATA}") for seed in SEEDS]
        yield from few_shot(real, "5w1s", 0.22, "Omniglot small 1, unseen alphabet")
        yield from few_shot(real, "20w1s", None, "Omniglot small 1, unseen alphabet")
    else:
        print(f"left out: {_DATA} is not there (STABLELIT_TEST_DATA)", flush=True)
    for experiment in ("sketches", "sketches_byol"):
        yield from few_shot([shipped(experiment, seed) for seed in SEEDS], "5w1s", None, f"toy, {experiment}")


def stuck_rows() -> Iterator[Row]:
    """The post-mortem's run and its two fixes: where each stands beside chance, and what the monitor says of it."""
    for experiment in ("sketches_before", "sketches_after", "sketches_accumulated"):
        outcome = shipped(experiment, 0)
        last = outcome.history[-1]
        found = ", ".join(finding["name"] for finding in outcome.findings)
        yield Row(f"{experiment}: loss over chance", last["train/loss"] / last["train/chance"], "")
        yield Row(
            f"{experiment}: loss; found {found}",
            last["train/loss"],
            "nats",
            peer="chance",
            peer_value=last["train/chance"],
        )


def rows() -> Iterator[Row]:
    yield from loss_rows()
    yield from augment_rows()
    yield from learned_rows()
    yield from stuck_rows()
    yield from monitor_rows()


if __name__ == "__main__":
    sys.exit(run("sketches", rows()))
