"""What NonFiniteGuard remembers across a resume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stablelit.functional.spikes import SpikeState

COUNTS = ("skipped_steps", "rollbacks", "spikes", "scaler_skips")


@dataclass
class GuardBooks:
    """Counters and windows of losses.

    Args:
        counts: of this epoch.
        consecutive: steps that were left out, up to now in a row.
        scaler_run: steps that the scaler left out, up to now in a row.
        scaler_settled: whether the scaler has found a scale once.
        spikes: of each optimizer, by its place.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    consecutive: int = 0
    scaler_run: int = 0
    scaler_settled: bool = False
    spikes: dict[int, SpikeState] = field(default_factory=dict)

    @property
    def rising(self) -> bool:
        """Whether a spike is going on."""
        return any(state.above for state in self.spikes.values())

    def went_back(self) -> None:
        """The state that was put back has nothing to do with what came after it."""
        self.consecutive = self.scaler_run = 0
        self.spikes = {index: SpikeState(state.window) for index, state in self.spikes.items()}

    def new_level(self) -> None:
        """What was an alarm is how things are from now on."""
        self.consecutive, self.scaler_run, self.spikes = 0, 0, {}

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        spikes = {str(index): state.plain() for index, state in self.spikes.items()}
        return {**vars(self), "counts": dict(self.counts), "spikes": spikes}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> GuardBooks:
        """From plain data."""
        return cls(**{**plain, "spikes": {int(i): SpikeState.of(state) for i, state in plain["spikes"].items()}})
