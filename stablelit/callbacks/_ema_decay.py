"""How fast an average forgets, in updates of a run whose length may be known only when it begins."""

from __future__ import annotations

import math
from typing import Any

from stablelit.callbacks._clock import planned
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.findings import Finding
from stablelit.functional.averaging import ema_decay, half_life_decay
from stablelit.functional.schedules import CLOCK_UNITS, check_count, check_flag, check_number, parse_duration

DEFAULT_DECAY = 0.9999
# below this share of the average the weights that it began with do not matter for a finding
_MOST_OF_THE_START = 0.5


class EMADecay:
    """A decay, given as such or as a half-life, with its warm-up.

    Args:
        decay: of one update.
        half_life: a clock string in its place.
        warm_up: see :func:`stablelit.functional.averaging.ema_decay`.
        every: optimizer steps from one update to the next.
        owner: for messages.

    Raises:
        ConfigurationError: both are given, or one is out of range.
    """

    def __init__(self, decay: float | None, half_life: int | str | None, warm_up: bool, every: int, owner: str) -> None:
        if decay is not None and half_life is not None:
            raise ConfigurationError(f"{owner}: decay={decay!r} and half_life={half_life!r} say the same. Give one.")
        if decay is not None and check_number(owner, "decay", decay, at_least=0.0, at_most=1.0) == 1.0:
            raise bad_argument(owner, "decay", decay, "below 1: an average with decay 1 never moves")
        self.half_life = None if half_life is None else parse_duration(half_life, "half_life", owner)
        if self.half_life is not None and self.half_life.amount <= 0:
            raise bad_argument(owner, "half_life", half_life, "a clock string above 0, such as '500st'")
        self.decay = DEFAULT_DECAY if decay is None else float(decay)
        self.warm_up = check_flag(owner, "warm_up", warm_up)
        self.every = check_count(owner, "every", every, 1)
        self.owner = owner
        self._steps: float | None = None

    def __str__(self) -> str:
        return f"decay={self.decay:g}" if self.half_life is None else f"half_life={self.half_life}"

    def begin(self, trainer: Any) -> None:
        """Turns a half-life into optimizer steps, a share of the run the first time only.

        Raises:
            ConfigurationError: a share of a run, or epochs, whose length nobody knows.
        """
        if self.half_life is None:
            return
        if self._steps is None or self.half_life.unit != "dur":
            self._steps = self.half_life.amount * self._steps_per_unit(trainer)
        self.decay = half_life_decay(self._steps, self.every)

    def now(self, n_averaged: int) -> float:
        """The decay of the update that follows `n_averaged` others."""
        return ema_decay(n_averaged, self.decay, self.warm_up)

    def finding(self, trainer: Any, delay: float) -> Finding | None:
        """An average that will still be made of the weights that it began with when the run ends."""
        updates = (planned(trainer, "st") - delay) // self.every
        if self.warm_up or not math.isfinite(updates) or updates < 10:
            return None
        share = self.decay ** (updates - 1)
        if share < _MOST_OF_THE_START:
            return None
        return Finding(
            "average-remembers-the-start",
            "warning",
            f"after the {updates:.0f} updates of this run {100 * share:.0f} % of the average with {self} and without a "
            f"warm-up is what the weights were at its first.",
            {"updates": updates, "share": share, "decay": self.decay},
            "warm_up=True, or half_life='0.02dur'",
        )

    def state_dict(self) -> dict[str, Any]:
        """What a share of the run came to."""
        return {"half_life_steps": self._steps, "given": str(self.half_life)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up; a share that was changed since is taken as it is now."""
        self._steps = state["half_life_steps"] if state["given"] == str(self.half_life) else None

    def forget(self) -> None:
        """Another run begins."""
        self._steps = None

    def _steps_per_unit(self, trainer: Any) -> float:
        assert self.half_life is not None
        unit, per_step = self.half_life.unit, float(trainer.accumulate_grad_batches)
        batches = float(trainer.num_training_batches)
        found = {
            "st": 1.0,
            "ba": 1.0 / per_step,
            "ep": float(math.ceil(batches / per_step)) if math.isfinite(batches) else math.inf,
            "dur": planned(trainer, "st"),
        }[unit]
        if not math.isfinite(found) or found <= 0:
            raise ConfigurationError(
                f"{self.owner}: half_life={self.half_life} counts {CLOCK_UNITS[unit]}, but nobody knows how many steps "
                f"that is here. Give it in optimizer steps ('500st')."
            )
        return found
