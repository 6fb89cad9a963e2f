"""Which of the steps that somebody has named have come: each once, whatever a resume or a rollback does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stablelit.callbacks._clock import elapsed, planned
from stablelit.errors import bad_argument
from stablelit.findings import Finding, FindingReporter
from stablelit.functional.schedules import CLOCK_UNITS, Duration, parse_duration


class NamedSteps:
    """Answers `due` once for each named step, and once for each tick of an interval.

    A share of the run ("0.5dur") is resolved into optimizer steps once, when the first fit begins, and kept: a run that
    is resumed for longer does not write its middle twice. What falls inside an accumulated step waits for its end.

    Args:
        owner: for messages, and the source of its findings.
        steps: ints (optimizer steps) or clock strings.
        every: a clock string: the interval.
        kind: what happens at these steps, for messages: "samples".

    Raises:
        ConfigurationError: neither steps nor an interval, or one that is no clock string above 0.
    """

    def __init__(
        self, owner: str, steps: Sequence[int | str] | None, every: int | str | None = None, kind: str = "files"
    ) -> None:
        allowed = "a list of ints (optimizer steps) and clock strings, such as [10000, 25000, '0.5dur']"
        if steps is not None and (isinstance(steps, str) or not isinstance(steps, Sequence)):
            raise bad_argument(owner, "steps", steps, allowed)
        if not steps and every is None:
            raise bad_argument(owner, "steps", steps, allowed)
        self.owner, self.kind = owner, kind
        self._given = [_above_zero(owner, f"steps[{i}]", step) for i, step in enumerate(steps or ())]
        self._given_every = None if every is None else _above_zero(owner, "every", every)
        self._reporter = FindingReporter(owner, "warn")
        self._loaded = False
        self._done: list[str] = []
        self._resolved: dict[str, Duration] = {}
        self._tick: int | None = None
        self._last_step = 0

    def __str__(self) -> str:
        named = [f"steps=[{', '.join(map(str, self._given))}]"] if self._given else []
        return ", ".join([*named, *([f"every={self._given_every}"] if self._given_every else [])])

    def begin(self, trainer: Any) -> None:
        """At the beginning of every fit: resolves shares, and says which steps will not come.

        Raises:
            ConfigurationError: a share of a run whose length nobody knows.
        """
        if trainer.global_step == 0 and not self._loaded:
            self._forget()  # a callback that is used again
        self._loaded = False
        for duration in (*self._given, *([self._given_every] if self._given_every else [])):
            if str(duration) not in self._resolved:
                self._resolved[str(duration)] = self._in_force(trainer, duration)
        if self._tick is None:
            self._tick = self._ticks(trainer)
        self._last_step = int(elapsed(trainer, "st"))
        if any(self._amount(d) == elapsed(trainer, self._resolved[str(d)].unit) for d in self._left()):
            self._last_step -= 1  # this very step: the run went on from between its batch and the end of its epoch
        if not trainer.fast_dev_run:
            self._tell_of_lost(trainer)

    def due(self, trainer: Any) -> bool:
        """Whether a named step has come since it was last asked. To be asked when a batch or an epoch has ended."""
        step = int(elapsed(trainer, "st"))
        if step == self._last_step:
            return False
        self._last_step = step
        return self.come(trainer)

    def come(self, trainer: Any) -> bool:
        """The same, also where no optimizer step has been taken since: at the beginning of a resumed fit."""
        come = [str(d) for d in self._left() if elapsed(trainer, self._resolved[str(d)].unit) >= self._amount(d)]
        self._done += come
        before, self._tick = self._tick or 0, self._ticks(trainer)
        return bool(come) or self._tick > before

    def state_dict(self) -> dict[str, Any]:
        """What is done, and what shares have come to; plain."""
        resolved = {name: [d.amount, d.unit] for name, d in self._resolved.items()}
        return {
            "done": list(self._done),
            "tick": self._tick,
            "resolved": resolved,
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up; steps that were not named then are new, and an interval that is another one begins anew."""
        self._loaded = True
        self._done = [str(name) for name in state["done"]]
        self._resolved = {name: Duration(float(amount), unit) for name, (amount, unit) in state["resolved"].items()}
        another = self._given_every is not None and str(self._given_every) not in self._resolved
        self._tick = None if another or state["tick"] is None else int(state["tick"])
        self._reporter.load_state_dict(state["findings"])

    def _forget(self) -> None:
        self._done, self._resolved, self._tick, self._last_step = [], {}, None, 0

    def _left(self) -> list[Duration]:
        return [duration for duration in self._given if str(duration) not in self._done]

    def _amount(self, duration: Duration) -> float:
        return self._resolved[str(duration)].amount

    def _ticks(self, trainer: Any) -> int:
        if self._given_every is None:
            return 0
        every = self._resolved[str(self._given_every)]
        return int(elapsed(trainer, every.unit) // every.amount)

    def _in_force(self, trainer: Any, duration: Duration) -> Duration:
        if duration.unit != "dur":
            return duration
        length = planned(trainer, "st")
        if not math.isfinite(length):
            name = "every" if duration is self._given_every else "steps"
            raise bad_argument(self.owner, name, str(duration), "steps, batches or epochs: no known length")
        return Duration(float(max(1, round(duration.amount * length))), "st")

    def _tell_of_lost(self, trainer: Any) -> None:
        behind, beyond = [], []
        for duration in self._left():
            unit = self._resolved[str(duration)].unit
            if self._amount(duration) < elapsed(trainer, unit):
                behind.append(str(duration))
            # epochs are a quotient
            elif self._amount(duration) > planned(trainer, unit) * (1 + 1e-9):
                beyond.append(f"{duration} (the run is {planned(trainer, unit):g} {CLOCK_UNITS[unit]} long)")
        self._done += behind
        for name, lost in (("behind", behind), ("beyond", beyond)):
            if lost:
                where = "lie behind this run already" if name == "behind" else "lie beyond its end"
                message = f"no {self.kind} will be written at {', '.join(lost)}: they {where}."
                finding = Finding(f"named-steps-{name}", "warning", message, {"steps": ", ".join(lost)}, _REMEDY[name])
                self._reporter.report(trainer, finding)


_REMEDY = {"behind": "other steps, or a new run", "beyond": "a longer run, or a share of it such as '0.5dur'"}


def _above_zero(owner: str, name: str, given: int | str) -> Duration:
    duration = parse_duration(given, name, owner)
    if duration.amount <= 0:
        raise bad_argument(owner, name, given, "a clock string above 0, such as 1000, '500st', '2ep', '0.5dur'")
    return duration
