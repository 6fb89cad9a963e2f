"""Keeps snapshots at the ticks of a clock, and takes a run back to one, more slowly than it came."""

from __future__ import annotations

import math
from typing import Any

from stablelit.callbacks._clock import elapsed, planned
from stablelit.callbacks._snapshots import Snapshot, SnapshotRing, refuse_sharded, restore
from stablelit.errors import bad_argument
from stablelit.functional.schedules import Duration, check_number, parse_duration
from stablelit.optim.rescale import scale_learning_rates


class Rollbacks:
    """A bounded number of ways back.

    Args:
        every: a clock string: how often a snapshot is kept.
        keep: how many.
        lr_factor: what each rollback multiplies the learning rates with.
        most: how many rollbacks, over the whole run.
        owner: for messages.

    Attributes:
        count: rollbacks so far.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, every: int | str, keep: int, lr_factor: float, most: int, owner: str) -> None:
        for name, value in (("keep", keep), ("max_rollbacks", most)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise bad_argument(owner, name, value, "an int of 1 or more")
        self.lr_factor = check_number(owner, "lr_factor", lr_factor, above=0.0, at_most=1.0)
        self.every = parse_duration(every, "every", owner)
        if self.every.amount <= 0:
            raise bad_argument(owner, "every", every, "a clock string above 0, such as '100st'")
        self.keep, self.most, self.owner = keep, most, owner
        self.count = 0
        self._interval = self.every
        self._ring = SnapshotRing(keep)
        self._tick = 0

    @property
    def lr_share(self) -> float:
        """What is left of the learning rate."""
        return self.lr_factor**self.count

    def begin(self, trainer: Any) -> None:
        """Keeps the state that a fit begins with.

        Raises:
            ConfigurationError: a strategy whose state is sharded, or a share of a run whose length nobody knows.
        """
        refuse_sharded(trainer, self.owner)
        self._interval = self.every
        if self.every.unit == "dur":
            length = planned(trainer, "st")
            if not math.isfinite(length):
                raise bad_argument(self.owner, "every", str(self.every), "steps, batches or epochs: no known length")
            self._interval = Duration(max(1.0, round(self.every.amount * length)), "st")
        self._ring = SnapshotRing(self.keep)
        self._take(trainer)

    def confirm(self) -> None:
        """A step was good: so was the state before it."""
        self._ring.confirm()

    def keep_if_due(self, trainer: Any) -> None:
        """Keeps a snapshot where the clock has ticked since the last."""
        if self._ticks(trainer) > self._tick:
            self._take(trainer)

    def go_back(self, trainer: Any) -> Snapshot | None:
        """Puts the newest good state back and lowers the learning rates; None where there is no way back (any more)."""
        snapshot = self._ring.choose(trainer) if self.count < self.most else None
        if snapshot is not None:
            restore(trainer, snapshot)
            self._ring.used(snapshot)
            self.count += 1
            # the snapshot has the rates of its time
            factor = self.lr_factor ** (self.count - snapshot.rollbacks)
            scale_learning_rates(trainer.optimizers, [c.scheduler for c in trainer.lr_scheduler_configs], factor)
        return snapshot

    def clear(self) -> None:
        """Lets the memory go."""
        self._ring = SnapshotRing(self.keep)

    def _take(self, trainer: Any) -> None:
        self._tick = self._ticks(trainer)
        self._ring.take(trainer, self.count)

    def _ticks(self, trainer: Any) -> int:
        return int(elapsed(trainer, self._interval.unit) // self._interval.amount)
