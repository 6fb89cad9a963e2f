"""How much memory long runs come to hold: 20,000 steps in long epochs and in short ones, with every callback on.

What is measured is what a process holds after the warm-up and at its end, see `memory_fits`. Where it grows by more
than it may, the lines of code whose allocations grew most are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.memory_fits import Callbacks, Held, everything, everything_else, held, none
from benchmarks.rows import Row, run

FLOOR_MIB = 5.0
# steps before the first reading, of the fit, and of an epoch
STEPS = (2_000, 20_000, 500)
EPOCHS = (2_000, 20_000, 10)
TRACED = (500, 2_500, 100)


def growth_rows(name: str, callbacks: Callbacks, shape: tuple[int, int, int], alone: Held) -> Iterator[Row]:
    """What a set of callbacks comes to hold, beside Lightning alone."""
    warm_up, steps, per_epoch = shape
    found = held(callbacks, *shape)
    what = f"{steps:,} steps in epochs of {per_epoch}, {name}"
    row = Row(f"{what}: growth from step {warm_up:,}", found.growth, "MiB", FLOOR_MIB, "lower", "none", alone.growth)
    yield row
    yield Row(f"{what}: files", found.files_mib, "MiB", None, "lower", "none", alone.files_mib)
    if not row.ok:
        for line in held(callbacks, *TRACED, trace=True).culprits:
            print(f"  {line}", file=sys.stderr, flush=True)


def rows() -> Iterator[Row]:
    """All rows."""
    for shape in (STEPS, EPOCHS):
        alone = held(none, *shape)
        for name, callbacks in (("every callback", everything), ("their other ways", everything_else)):
            yield from growth_rows(name, callbacks, shape, alone)


if __name__ == "__main__":
    raise SystemExit(run("memory_growth", rows()))
