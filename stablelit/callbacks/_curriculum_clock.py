"""The clock of a ramp that a gate may hold."""

from __future__ import annotations

import math
from typing import Any

from stablelit.callbacks._clock import RampClock, elapsed
from stablelit.callbacks._training_metrics import training_metrics
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import Finding, FindingReporter
from stablelit.functional.pacing import Pacing
from stablelit.functional.plateau_gate import GateState, PlateauGate


class CurriculumClock:
    """How much of the ramp has passed, in the time during which its gate was open.

    Args:
        delay: a clock string.
        duration: a clock string in the same unit.
        gate: decides at the end of each validation; None is always open.
        owner: for messages.

    Raises:
        ConfigurationError: not a clock string, or two different units.
    """

    def __init__(self, delay: int | str, duration: int | str, gate: PlateauGate | None, owner: str) -> None:
        self.ramp = RampClock(delay, duration, owner)
        self.gate = gate
        self.owner = owner
        self.state = GateState()
        self._lost = 0.0
        self._shut_at: float | None = None if gate is None else 0.0

    def check_published(self, pacing: Pacing) -> None:
        """The published ramp has a clock of its own.

        Raises:
            ConfigurationError: it is to be something else than it was.
        """
        ramp = self.ramp
        if pacing.kind == "postmortem" and (ramp.duration.unit != "ba" or ramp.delay.amount or self.gate is not None):
            raise ConfigurationError(
                f"{self.owner}: pacing='postmortem' counts batches from the first one and has no gate, as published; "
                f"duration={ramp.duration}, delay={ramp.delay}, gate={self.gate}. Write duration='5000ba'."
            )

    @property
    def begins_over(self) -> bool:
        """Whether there is no ramp, so that the end is there from the beginning."""
        return self.ramp.end == 0

    def progress(self, trainer: Any) -> float:
        """0 before and during the delay, 1 when the ramp is over, and more behind its end."""
        now = elapsed(trainer, self.ramp.unit)
        # while the gate is shut the time stands where it stood when it was shut
        passed = (now if self._shut_at is None else self._shut_at) - self._lost - self.ramp.delay.amount
        if passed < 0:
            return 0.0
        return passed / self.ramp.duration.amount if self.ramp.duration.amount else math.inf

    def after_validation(self, trainer: Any, reporter: FindingReporter) -> None:
        """Asks the gate, the same on every rank.

        Raises:
            ContractError: the metric was not logged; it says which were.
        """
        if self.gate is None:
            return
        value = self._monitored(trainer, self.gate.monitor)
        if not math.isfinite(value):
            reporter.report(
                trainer,
                Finding(
                    "gate-metric-non-finite",
                    "warning",
                    f"{self.gate.monitor} is {value} at a validation's end; the difficulty stays where it is.",
                    {"monitor": self.gate.monitor, "value": str(value)},
                    "find out why the metric is not finite; NonFiniteGuard guards the training",
                ),
            )
        now = elapsed(trainer, self.ramp.unit)
        if self._shut_at is not None:
            self._lost += now - self._shut_at
        self.state = self.gate.step(self.state, value)
        self._shut_at = None if self.state.is_open else now

    def state_dict(self) -> dict[str, Any]:
        """Ramp and gate, plain."""
        return {
            "ramp": self.ramp.state_dict(),
            "gate": [self.state.best, self.state.waited, self.state.held, self.state.is_open],
            "lost": self._lost,
            "shut_at": self._shut_at,
            "unit": self.ramp.unit,
            "monitor": None if self.gate is None else self.gate.monitor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them up; time that was lost in another unit is not known in this one, and counts as none.

        The best value of another metric than the gate looks at now says nothing.
        """
        self.ramp.load_state_dict(state["ramp"])
        best, *rest = state["gate"]
        same_metric = self.gate is None or state.get("monitor") in (None, self.gate.monitor)
        self.state = GateState(best if same_metric else GateState().best, *rest)
        # a share of the run that was changed since is about to be counted in optimizer steps
        same = state["unit"] == ("st" if self.ramp.unit == "dur" else self.ramp.unit)
        self._lost, self._shut_at = (float(state["lost"]), state["shut_at"]) if same else (0.0, None)

    def go_on(self, trainer: Any) -> None:
        """At the beginning of a fit that continues another, where the gate may have come or gone since."""
        now = elapsed(trainer, self.ramp.unit)
        if self.gate is None and self._shut_at is not None:
            self._lost += now - self._shut_at
            self._shut_at = None
        elif self.gate is not None and self._shut_at is None and not self.state.is_open:
            self._shut_at = now

    def _monitored(self, trainer: Any, name: str) -> float:
        metrics = trainer.callback_metrics
        if name in training_metrics(trainer):
            raise ContractError(
                f"{self.owner}: the gate looks at {name!r}, which training_step logs: it moves with the difficulty "
                f"itself. Give it a metric that only validation_step logs."
            )
        value = float(metrics[name]) if name in metrics else None
        if trainer.world_size > 1:
            # a metric that is not reduced differs between ranks, and they must not come apart
            value = trainer.strategy.broadcast(value)
        if value is None:
            raise ContractError(
                f"{self.owner}: the gate looks at {name!r}, which no validation has logged. There are "
                f"{', '.join(sorted(metrics)) or 'no metrics'}. Log it in validation_step, or name another monitor."
            )
        return float(value)
