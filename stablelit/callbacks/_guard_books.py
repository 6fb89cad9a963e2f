"""What NonFiniteGuard remembers across a resume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stablelit.functional.spikes import SpikeRule, SpikeState

Evidence = dict[str, float | int | str]
Trouble = tuple[str, str, Evidence]
"""The name of a finding, its message, and its numbers."""

COUNTS = ("skipped_steps", "rollbacks", "spikes", "scaler_skips")


@dataclass
class GuardBooks:
    """Counters and windows of losses.

    Args:
        counts: of this epoch.
        consecutive: of each optimizer, by its place, the steps that were left out, up to now in a row.
        scaler_run: likewise the steps that the scaler left out.
        scaler_settled: whether the scaler has found a scale once.
        spikes: of each optimizer.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    consecutive: dict[int, int] = field(default_factory=dict)
    scaler_run: dict[int, int] = field(default_factory=dict)
    scaler_settled: bool = False
    spikes: dict[int, SpikeState] = field(default_factory=dict)

    @property
    def rising(self) -> bool:
        """Whether a spike is going on."""
        return any(state.above for state in self.spikes.values())

    def stepped(self, rule: SpikeRule | None, loss: float | None, index: int, scaled: bool) -> Trouble | None:
        """A step with finite numbers is taken; tells of a loss that does not come back.

        Args:
            rule: for spikes; None does not look.
            loss: of the step, where it is known.
            index: of the optimizer.
            scaled: whether a gradient scaler is at work.
        """
        self.consecutive[index] = self.scaler_run[index] = 0
        self.scaler_settled = scaled
        if rule is None or loss is None:
            return None
        before = self.spikes.get(index, SpikeState())
        after, verdict = rule.step(before, loss)
        self.spikes[index] = after
        self.counts["spikes"] += verdict == "spike"
        if verdict != "unrecovered":
            return None
        limit = rule.limits(before)[0]
        message = f"the loss is {loss:.4g}, and was above {limit:.4g} for {after.above} steps in a row."
        return "loss-does-not-recover", message, {"loss": loss, "limit": limit, "steps": after.above}

    def skipped(self, index: int) -> int:
        """A step of the optimizer at this place is left out; how many in a row that makes."""
        self.counts["skipped_steps"] += 1
        self.consecutive[index] = self.consecutive.get(index, 0) + 1
        return self.consecutive[index]

    def scaler_skipped(self, scale: float, most: int, index: int) -> Trouble | None:
        """The scaler leaves a step out; tells where that is no search for a scale any more.

        Args:
            scale: before the scaler lowers it.
            most: steps in a row that are healthy behind the first search.
            index: of the optimizer.
        """
        row = self.scaler_run[index] = self.scaler_run.get(index, 0) + 1
        self.counts["scaler_skips"] += 1
        if scale >= 1.0 and not (self.scaler_settled and row > most):
            return None
        message = f"the gradients overflow whatever their scale: {row} steps in a row, down to a scale of {scale:g}."
        return "scaler-finds-no-scale", message, {"steps": row, "scale": scale}

    def went_back(self) -> None:
        """The state that was put back has nothing to do with what came after it."""
        self.consecutive, self.scaler_run = {}, {}
        self.spikes = {index: SpikeState(state.window) for index, state in self.spikes.items()}

    def new_level(self) -> None:
        """What was an alarm is how things are from now on."""
        self.consecutive, self.scaler_run, self.spikes = {}, {}, {}

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        spikes = {str(index): state.plain() for index, state in self.spikes.items()}
        rows = {"consecutive": dict(self.consecutive), "scaler_run": dict(self.scaler_run)}
        return {**vars(self), **rows, "counts": dict(self.counts), "spikes": spikes}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> GuardBooks:
        """From plain data."""
        spikes = {int(i): SpikeState.of(state) for i, state in plain["spikes"].items()}
        rows = {key: {int(i): row for i, row in plain[key].items()} for key in ("consecutive", "scaler_run")}
        return cls(**{**plain, **rows, "counts": dict(plain["counts"]), "spikes": spikes})
