"""Where the time of a training step goes: shares of wall time, utilisation, and what limits a run."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

from stablelit.functional.step_clock import StepTotals

Limit = Literal["input-bound", "host-bound", "padding", "compute-bound"]

# below this share of its time a device is not what limits a run; above this share padding is worth mending
BUSY_ENOUGH = 0.7
PADDING_TOO_MUCH = 0.3


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

    def add(self, later: RankEpoch) -> None:
        """Adds what the same rank counted later; the quantiles are the later ones, whose window looks back."""
        self.totals.add(later.totals)
        self.samples += later.samples
        self.real_items += later.real_items
        self.places += later.places
        self.flops += later.flops
        self.step_quantiles, self.wait_quantiles = later.step_quantiles, later.wait_quantiles


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


class EpochsTogether:
    """Adds up what ranks have counted until it is enough to judge by.

    Args:
        min_steps: counted on every rank, that are enough.
    """

    def __init__(self, min_steps: int) -> None:
        self.min_steps = min_steps
        self.ranks: list[RankEpoch] = []
        self.epochs = 0

    @property
    def steps(self) -> int:
        """Counted so far, on the rank that counted the fewest."""
        return min((rank.totals.steps for rank in self.ranks), default=0)

    def add(self, ranks: Sequence[RankEpoch]) -> list[RankEpoch]:
        """Takes another epoch; returns the sums of all since the last return where they are enough, else nothing."""
        if not self.ranks:
            self.ranks, self.epochs = deepcopy(list(ranks)), 0
        else:
            for mine, later in zip(self.ranks, ranks, strict=True):
                mine.add(later)
        self.epochs += 1
        if self.steps < self.min_steps:
            return []
        enough, self.ranks = self.ranks, []
        return enough


def seconds_waited(ranks: Sequence[RankEpoch]) -> float:
    """For a batch, on average, on the rank that waits longest; 0 where no step was counted."""
    return max((rank.totals.wait / rank.totals.steps for rank in ranks if rank.totals.steps), default=0.0)


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
