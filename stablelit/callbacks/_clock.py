"""What a Trainer's counters say in the units of a clock string, and the share of a ramp that has passed."""

from __future__ import annotations

import math
from typing import Any

from stablelit.errors import ConfigurationError
from stablelit.functional.schedules import CLOCK_UNITS, ClockUnit, Duration, parse_duration


class RampClock:
    """Turns `delay` and `duration` into a progress in [0, 1] that a resume neither resets nor moves.

    A share of the run ("0.1dur") is resolved into optimizer steps once, when the first fit begins, and kept in the
    checkpoint: a run that is resumed for longer goes on along the same ramp.

    Args:
        delay: how long the value stays at its start.
        duration: how long it moves; 0 means it is at its end from the beginning.
        owner: for messages.
        delay_name: what the owner calls `delay`.
        duration_name: what the owner calls `duration`.

    Raises:
        ConfigurationError: not a clock string, or two different units (their order would depend on the data).
    """

    def __init__(
        self,
        delay: int | str,
        duration: int | str,
        owner: str,
        delay_name: str = "delay",
        duration_name: str = "duration",
    ) -> None:
        self.owner = owner
        self.duration_name = duration_name
        self._over = False
        self.delay = parse_duration(delay, delay_name, owner)
        self.duration = parse_duration(duration, duration_name, owner)
        self._given = (self.delay, self.duration)
        self._continued = False
        if self.delay.amount and self.duration.amount and self.delay.unit != self.duration.unit:
            raise ConfigurationError(
                f"{owner}: {delay_name}={delay!r} and {duration_name}={duration!r} are in different units "
                f"({CLOCK_UNITS[self.delay.unit]} and {CLOCK_UNITS[self.duration.unit]}). Give both in one unit."
            )

    def begin(self, trainer: Any, allow_unfinished: bool, allow_name: str) -> None:
        """At the beginning of every fit: turns shares of the run into optimizer steps, the first time.

        Args:
            trainer: about to train.
            allow_unfinished: accept a ramp that the planned run does not finish.
            allow_name: what the owner calls that argument.

        Raises:
            ConfigurationError: a share of a run whose length nobody knows, or a ramp longer than the run.
        """
        self._over = False
        if trainer.global_step == 0 and not self._continued:
            self.delay, self.duration = self._given  # a callback that is used again, in a run of another length
        self._continued = False
        for name in ("delay", "duration"):
            length: Duration = getattr(self, name)
            if length.unit == "dur":
                total = planned(trainer, "st")
                if not math.isfinite(total):
                    raise ConfigurationError(
                        f"{self.owner}: {length} is a share of the run, but this run has no known length. "
                        f"Set max_steps or max_epochs on the Trainer, or give the duration in steps ('500st')."
                    )
                setattr(self, name, Duration(float(round(length.amount * total)), "st"))
        if not allow_unfinished and not trainer.fast_dev_run and self.reach(trainer) < 1.0:
            raise self.overrun(trainer, allow_name)

    @property
    def unit(self) -> ClockUnit:
        """What the clock counts."""
        return self.duration.unit if self.duration.amount else self.delay.unit

    @property
    def end(self) -> float:
        """When the ramp is over, in `unit`."""
        return self.delay.amount + self.duration.amount

    def reach(self, trainer: Any) -> float:
        """The share of the ramp that the planned run gets through; 1 and more where it finishes it."""
        length = planned(trainer, self.unit)
        finished = 1.0 if self.end <= length else 0.0  # in floating point the quotient of an exact fit may fall short
        return max(finished, (length - self.delay.amount) / self.duration.amount) if self.duration.amount else finished

    def overrun(
        self, trainer: Any, allow_name: str, outcome: str = "the value would never reach its end"
    ) -> ConfigurationError:
        """The error of a ramp that is longer than the run; `outcome` is what that comes to."""
        length, unit = planned(trainer, self.unit), self.unit
        fits = math.floor(length) if unit != "ep" else f"{length:g}"
        return ConfigurationError(
            f"{self.owner}: the ramp ends after {self.end:g} {CLOCK_UNITS[unit]}, but the run is {length:g} long, so "
            f"{outcome}. Shorten {self.duration_name} to at most '{fits}{unit}', write it as a share ('0.5dur'), or "
            f"train for longer. To keep it as it is: {allow_name}=True."
        )

    def go_on(self) -> None:
        """A state was loaded in the middle of a fit, which is no beginning of another run."""
        self._continued = False

    def progress(self, trainer: Any) -> float:
        """How much of the ramp has passed: 0 before and during the delay, 1 from its end on."""
        if self._over:  # a clock does not run backwards, and asking it costs ten times as much as this
            return 1.0
        passed = elapsed(trainer, self.unit) - self.delay.amount
        if passed < 0:
            return 0.0
        self._over = passed >= self.duration.amount
        return 1.0 if self._over else passed / self.duration.amount

    def state_dict(self) -> dict[str, Any]:
        """The durations as they are in force, plain."""
        return {
            "delay": [self.delay.amount, self.delay.unit],
            "duration": [self.duration.amount, self.duration.unit],
            "given": [str(length) for length in self._given],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what a share of the first run came to; a duration that was changed since is taken as it is now."""
        self._continued = True
        for name, given, before in zip(("delay", "duration"), self._given, state["given"], strict=True):
            if getattr(self, name).unit == "dur" and str(given) == before:
                amount, unit = state[name]
                setattr(self, name, Duration(float(amount), unit))


def elapsed(trainer: Any, unit: ClockUnit) -> float:
    """What lies behind the Trainer in `unit`, in any hook of training: at a batch's end the batch counts.

    Optimizer steps are counted once where a manually optimised module has several optimizers. Epochs count fractions.
    """
    if unit == "st":
        module = trainer.lightning_module
        per_step = 1 if module.automatic_optimization else max(1, len(trainer.optimizers))
        return float(trainer.global_step // per_step)
    # `processed` is the number of batches behind us, at a batch's start as at its end
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if unit == "ba":
        return float(progress.total.processed)
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.num_training_batches
    # between two epochs the counter of batches still stands at the end of the one before
    inside = epochs.started > epochs.processed and math.isfinite(batches) and batches > 0
    return float(epochs.processed) + (progress.current.processed / batches if inside else 0.0)


def planned(trainer: Any, unit: ClockUnit) -> float:
    """The length of the planned run in `unit`; infinity where it has none."""
    steps = float(trainer.estimated_stepping_batches)
    if steps < 0:  # what Lightning answers for an IterableDataset without max_steps
        steps = math.inf
    batches_per_epoch = float(trainer.num_training_batches)
    if unit == "st":
        return steps
    if unit == "ba":
        return steps * float(trainer.accumulate_grad_batches)
    by_epochs = float(trainer.max_epochs or -1)
    if by_epochs < 0:
        by_epochs = math.inf
    if not math.isfinite(batches_per_epoch) or batches_per_epoch <= 0:
        return by_epochs
    return min(by_epochs, steps * float(trainer.accumulate_grad_batches) / batches_per_epoch)
