"""Where Lightning asks the loader for a batch: the time it takes, and the same batch once more."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from stablelit.functional.step_clock import StepClock

_HOOKS = ("_on_before_fetch", "_on_after_fetch")


class FetchTap:
    """Tells a clock when the train loader's `next` begins and ends.

    Lightning hands two methods of its epoch loop to whatever fetches, for its profiler (2.6.6,
    `_TrainingEpochLoop.on_run_start`); for as long as a fit lasts, these stand before them on the instance.

    Args:
        trainer: about to train.
        clock: which is told.
        busy: whether the device has work, None where nobody knows.
    """

    def __init__(self, trainer: Any, clock: StepClock, busy: Callable[[], bool | None]) -> None:
        self._loop = trainer.fit_loop.epoch_loop
        begin, end = (getattr(self._loop, name) for name in _HOOKS)

        def before() -> None:
            begin()
            clock.fetch_begins(time.perf_counter(), busy())

        def after() -> None:
            clock.fetch_ends(time.perf_counter(), busy())
            end()

        self._loop.__dict__.update(zip(_HOOKS, (before, after), strict=True))

    def release(self) -> None:
        """Puts the loop's own methods back."""
        for name in _HOOKS:
            self._loop.__dict__.pop(name, None)


class BatchRepeater:
    """Makes one batch of the first epoch come again for some steps, and keeps what they take.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds: list[float] = []
        self.repeating = False
        self._before = 0
        self._ended = 0.0

    def after_step(self, trainer: Any, now: float) -> None:
        """Called at the end of every counted step: waits for as many steps as it will take, then takes them."""
        if self.repeating:
            self.seconds.append(now - self._ended)
            self.repeating = len(self.seconds) < self.steps
        elif not self.seconds:
            self._before += 1
            if self._before >= self.steps:
                fetcher = trainer.fit_loop._data_fetcher
                fetcher.iterator = _again(fetcher.iterator, self.steps)
                self.repeating = True
        self._ended = now

    def ratio(self, with_loading: float | None) -> float | None:
        """How many times longer a step with loading takes; None where the probe has not come to its end."""
        self.repeating = False
        # the first step of the probe loads the batch that the others repeat
        without = self.seconds[1:]
        return with_loading / statistics.median(without) if with_loading and without else None


def _again(iterator: Iterator[Any], times: int) -> Iterator[Any]:
    item = next(iterator)
    for _ in range(times):
        yield item
    # not `yield from`: Lightning's combined loader would begin anew
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item


def chunk_loads(trainer: Any) -> int | None:
    """Chunks loaded so far, where a data set counts them (`chunk_loads`) and reads in this process."""
    counts = [
        loader.dataset.chunk_loads
        for loader in trainer.fit_loop._combined_loader.flattened
        if getattr(loader, "num_workers", 1) == 0 and hasattr(loader.dataset, "chunk_loads")
    ]
    return sum(counts) if counts else None
