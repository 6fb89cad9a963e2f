r"""Where the time of a training step goes: shares of wall time, utilisation, and what limits a run.

Nothing here reads a clock: times come in as numbers, seconds unless said otherwise, so that everything can be tested
without waiting.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Limit = Literal["input-bound", "host-bound", "padding", "compute-bound"]

# below this share of its time a device is not what limits a run; above this share padding is worth mending
BUSY_ENOUGH = 0.7
PADDING_TOO_MUCH = 0.3


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


class Shares(NamedTuple):
    """Shares of the wall time, each in [0, 1].

    Args:
        data_wait: in the loader's `next`.
        exposed_wait: of that, while the device had nothing to do; equal to `data_wait` where the host computes.
        device_busy: while the device had work; None where the host computes.
        host_gap: neither waiting for data nor computing: hooks, logging, transfers, kernel launches, synchronisation.
    """

    data_wait: float
    exposed_wait: float
    device_busy: float | None
    host_gap: float


def time_shares(totals: StepTotals) -> Shares | None:
    r"""Shares of the wall time; None where no step was counted.

    With a device that works on while the host waits, :math:`gap = 1 - busy - wait_{exposed}`: a wait that the device
    spends working costs nothing. Where the host computes, :math:`gap = 1 - step - wait`.
    """
    if totals.steps == 0 or totals.wall <= 0.0:
        return None
    wait = min(1.0, totals.wait / totals.wall)
    if totals.busy is None:
        return Shares(wait, wait, None, max(0.0, 1.0 - wait - totals.step / totals.wall))
    busy = min(1.0, totals.busy / totals.wall)
    exposed = max(0.0, totals.wait - totals.hidden) / totals.wall
    return Shares(wait, exposed, busy, max(0.0, 1.0 - busy - exposed))


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


def padding_fraction(real_items: float, padded_items: float) -> float:
    r""":math:`1 - real / padded`: the share of a batch's places that hold nothing.

    Raises:
        ValueError: no places, or more real items than places.
    """
    if not 0 <= real_items <= padded_items or padded_items == 0:
        raise ValueError(f"real_items={real_items:g} of padded_items={padded_items:g}; allowed: 0 to padded_items > 0")
    return 1.0 - real_items / padded_items


def model_flops_utilisation(flops: float, seconds: float, peak_flops_per_s: float, devices: int = 1) -> float:
    r"""MFU :math:`= F / (t \, P \, n)`: the share of what `devices` devices could compute in the time.

    Args:
        flops: of the model's forward and backward passes, all devices together. Recomputation does not count.
        seconds: they took.
        peak_flops_per_s: of one device.
        devices: how many.

    Source: Chowdhery et al., PaLM, arXiv:2204.02311, appendix B.
    """
    return flops / (seconds * peak_flops_per_s * devices)


@dataclass
class RankEpoch:
    """What one rank has counted in an epoch.

    Args:
        totals: sums over its steps.
        samples: in those steps.
        real_items: in those steps; 0 where nobody counted.
        places: for items, padding included; 0 where nobody counted.
        flops: of those steps; 0 where nobody knows.
        step_quantiles: p50 and p95 of a step's wall time, seconds.
        wait_quantiles: p50 and p95 of a step's wait, seconds.
    """

    totals: StepTotals
    samples: int
    real_items: float
    places: float
    flops: float
    step_quantiles: list[float]
    wait_quantiles: list[float]


def summarise(ranks: Sequence[RankEpoch], peak_flops_per_s: float | None) -> tuple[Shares, dict[str, float]] | None:
    """An epoch of all ranks: rates are sums over ranks, the wait and the quantiles are the slowest rank's.

    Args:
        ranks: at least one.
        peak_flops_per_s: of one device; None gives no `mfu`.

    Returns:
        The shares, and by name what is known of `data_wait_frac`, `host_gap_frac`, `device_busy_frac`,
        `samples_per_s`, `items_per_s`, `padding_frac`, `flops_per_s`, `mfu`, `step_s_p50`, `step_s_p95`, `wait_s_p50`,
        `wait_s_p95`; None where no step was counted.
    """
    together = StepTotals()
    for rank in ranks:
        together.add(rank.totals)
    shares = time_shares(together)
    if shares is None:
        return None
    alone = [s for s in (time_shares(rank.totals) for rank in ranks) if s is not None]
    slowest = max(alone, key=lambda s: s.exposed_wait)
    shares = shares._replace(data_wait=slowest.data_wait, exposed_wait=slowest.exposed_wait)
    seconds = together.wall / len(ranks)
    values = {**named_shares(shares), "samples_per_s": sum(rank.samples for rank in ranks) / seconds}
    real, places = sum(rank.real_items for rank in ranks), sum(rank.places for rank in ranks)
    if real:
        values["items_per_s"] = real / seconds
    if places:
        values["padding_frac"] = padding_fraction(real, places)
    if flops := sum(rank.flops for rank in ranks):
        values["flops_per_s"] = flops / seconds
        if peak_flops_per_s is not None:
            values["mfu"] = model_flops_utilisation(flops, seconds, peak_flops_per_s, len(ranks))
    for i, quantile in enumerate(("p50", "p95")):
        values[f"step_s_{quantile}"] = max(rank.step_quantiles[i] for rank in ranks)
        values[f"wait_s_{quantile}"] = max(rank.wait_quantiles[i] for rank in ranks)
    return shares, values


def named_shares(shares: Shares) -> dict[str, float]:
    """The shares by the names under which they are logged."""
    values = {"data_wait_frac": shares.data_wait, "host_gap_frac": shares.host_gap}
    if shares.device_busy is not None:
        values["device_busy_frac"] = shares.device_busy
    return values


class Verdict(NamedTuple):
    """What limits a run, and the numbers that say so in one sentence."""

    limit: Limit
    sentence: str


def verdict(shares: Shares, padding: float | None = None, too_much_wait: float = 0.2) -> Verdict:
    """What limits a run.

    ===============  ================================================================================================
    `input-bound`    the exposed wait exceeds `too_much_wait`; or what computes is idle, and the wait is the larger
                     part of the idle time
    `host-bound`     what computes is busy less than 70 % of the time, and the wait is the smaller part of the rest
    `padding`        it is busy, on batches of which more than 30 % is padding
    `compute-bound`  none of these
    ===============  ================================================================================================

    Args:
        shares: of the wall time.
        padding: share of places that hold nothing; None where nobody counted.
        too_much_wait: share of the wall time.
    """
    computing = shares.device_busy
    if computing is None:
        computing = max(0.0, 1.0 - shares.data_wait - shares.host_gap)
    what = "the device is busy" if shares.device_busy is not None else "the training step takes"
    numbers = (
        f"{shares.data_wait:.0%} of the time goes into waiting for data, {what} {computing:.0%} of it, "
        f"and {shares.host_gap:.0%} is neither"
    )
    if padding is not None:
        numbers += f"; {padding:.0%} of a batch is padding"
    idle = computing < BUSY_ENOUGH
    if shares.exposed_wait > too_much_wait or (idle and shares.exposed_wait > shares.host_gap):
        return Verdict("input-bound", numbers)
    if idle:
        return Verdict("host-bound", numbers)
    if padding is not None and padding > PADDING_TOO_MUCH:
        return Verdict("padding", numbers)
    return Verdict("compute-bound", numbers)
