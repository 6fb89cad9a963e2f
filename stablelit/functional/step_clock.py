"""The parts of training steps, added up from the times at which they begin and end.

Nothing here reads a clock: times come in as numbers, seconds, so that everything can be tested without waiting.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class StepTotals:
    """Sums over the steps that were counted.

    Args:
        steps: how many.
        wall: from the end of one step to the end of the next.
        wait: of that, inside the loader's `next`.
        hidden: of the wait, while the device still had work.
        step: of the wall time, between the start and the end of the training step, waits inside it left out.
        busy: of the wall time, while the device had work; None where nobody can tell (the host computes).
    """

    steps: int = 0
    wall: float = 0.0
    wait: float = 0.0
    hidden: float = 0.0
    step: float = 0.0
    busy: float | None = None

    def add(self, other: StepTotals) -> None:
        """Adds the sums of other steps."""
        self.steps += other.steps
        self.wall += other.wall
        self.wait += other.wait
        self.hidden += other.hidden
        self.step += other.step
        if other.busy is not None:
            self.busy = (self.busy or 0.0) + other.busy


class StepClock:
    """Adds up the parts of training steps from the times at which they begin and end.

    A step is counted from the end of the one before. Where something that is no part of training came between
    (validation, a checkpoint, the end of an epoch), `interrupt` says so: the step then counts from its own fetch on,
    and one that was interrupted inside is left out.

    At every mark the caller may say whether the device had work. Between two marks it is taken to have had work for
    half of the time where one of the two says so.

    Args:
        window: how many steps `step_quantiles` and `wait_quantiles` look back.
    """

    def __init__(self, window: int) -> None:
        self.totals = StepTotals()
        self.recent_steps: deque[float] = deque(maxlen=window)
        self.recent_waits: deque[float] = deque(maxlen=window)
        self._mark: float | None = None
        self._begin = self._fetch = self._last = 0.0
        self._was_busy: bool | None = None
        self._in_step = False
        self._inside = 0.0
        self._wait = self._hidden = self._busy = 0.0

    def interrupt(self) -> None:
        """What comes before the next fetch is no part of training."""
        self._mark = None

    def fetch_begins(self, now: float, busy: bool | None = None) -> None:
        """The loader is asked for a batch."""
        if self._mark is None and not self._in_step:
            self._mark = self._last = now
            self._wait = self._hidden = self._busy = 0.0
            self._was_busy = busy
        self.observe(now, busy)
        self._fetch = now

    def fetch_ends(self, now: float, busy: bool | None = None) -> None:
        """The batch is there."""
        self._hidden += self.observe(now, busy)
        self._wait += now - self._fetch
        if self._in_step:
            self._inside += now - self._fetch

    def step_begins(self, now: float, busy: bool | None = None) -> None:
        """The batch is on the device and the training step begins."""
        self.observe(now, busy)
        self._begin, self._inside, self._in_step = now, 0.0, True

    def step_ends(self, now: float, busy: bool | None = None, count: bool = True) -> float | None:
        """The training step is over; returns its wall time, or None where it was not counted."""
        self.observe(now, busy)
        mark, self._mark, self._in_step = self._mark, now, False
        wait, hidden, device = self._wait, self._hidden, self._busy
        self._wait = self._hidden = self._busy = 0.0
        if mark is None or not count:
            return None
        totals = self.totals
        totals.steps += 1
        totals.wall += now - mark
        totals.wait += wait
        totals.hidden += hidden
        totals.step += now - self._begin - self._inside
        if busy is not None:
            totals.busy = (totals.busy or 0.0) + device
        self.recent_steps.append(now - mark)
        self.recent_waits.append(wait)
        return now - mark

    def observe(self, now: float, busy: bool | None) -> float:
        """Adds the time since the last mark to the device's; returns what it added."""
        if busy is None:
            return 0.0
        added = 0.5 * (now - self._last) * (busy + bool(self._was_busy))
        self._busy += added
        self._last, self._was_busy = now, busy
        return added

    def take(self) -> StepTotals:
        """The sums so far; they begin anew. The quantiles' window stays."""
        totals, self.totals = self.totals, StepTotals()
        return totals


def quantiles(values: Iterable[float], shares: Sequence[float] = (0.5, 0.95)) -> list[float]:
    """Quantiles by linear interpolation; NaN where there are no values."""
    numbers = np.fromiter(values, dtype=float)
    return [float(q) for q in np.quantile(numbers, shares)] if numbers.size else [math.nan] * len(shares)
