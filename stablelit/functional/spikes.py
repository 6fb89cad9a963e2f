"""When a loss has jumped and does not come back: a rule on a window of losses, without a device and without a clock."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import Any, Literal

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.medians import SIGMA_PER_MAD
from stablelit.functional.schedules import check_number

Verdict = Literal["normal", "spike", "above", "unrecovered"]


@dataclass(frozen=True)
class SpikeState:
    """What the rule remembers.

    Args:
        window: the last losses that were no spike, oldest first.
        above: consecutive steps of the spike that goes on; 0 where there is none.
    """

    window: tuple[float, ...] = ()
    above: int = 0

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"window": list(self.window), "above": self.above}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> SpikeState:
        """From plain data."""
        return cls(tuple(float(v) for v in plain["window"]), int(plain["above"]))


@dataclass(frozen=True)
class SpikeRule:
    r"""A loss is above when it exceeds the median of its window by `threshold` robust standard deviations.

    .. math:: L_t > m + k \max(1.4826\,\mathrm{MAD},\; 0.01\,|m|)

    It is back when it is below the same with k/2. Losses of a spike never enter the window. For independent losses with
    tails as heavy as a Laplace distribution's, one step is above k = 8 with a chance of 1.4e-4, and `patience` + 1
    steps in a row with that to the power of `patience` + 1: an outlier happens, a row of them has a cause. The second
    term of the maximum keeps a loss without noise (one batch, full batches) from being judged by its rounding.

    Args:
        threshold: k.
        window: losses looked back on.
        patience: consecutive steps above that may still come back.
        owner: for messages.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> rule = SpikeRule(patience=2)
        >>> state = SpikeState((1.0, 1.1, 0.9) * 10)
        >>> for loss in (1.0, 9.0, 9.0, 9.0):
        ...     state, verdict = rule.step(state, loss)
        >>> verdict
        'unrecovered'
    """

    threshold: float = 8.0
    window: int = 64
    patience: int = 16
    owner: str = "SpikeRule"

    def __post_init__(self) -> None:
        check_number(self.owner, "spike_threshold", self.threshold, above=0.0)
        for name, value, least in (("spike_window", self.window, 8), ("patience", self.patience, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise bad_argument(self.owner, name, value, f"an int of {least} or more")

    @property
    def least(self) -> int:
        """Losses that must be in the window before anything is judged."""
        return max(8, self.window // 4)

    def limits(self, state: SpikeState) -> tuple[float, float]:
        """Above which loss a spike begins, and below which it is over; infinity while the window fills."""
        if len(state.window) < self.least:
            return math.inf, math.inf
        middle = statistics.median(state.window)
        deviation = SIGMA_PER_MAD * statistics.median(abs(value - middle) for value in state.window)
        unit = self.threshold * max(deviation, 0.01 * abs(middle))
        return middle + unit, middle + unit / 2

    def step(self, state: SpikeState, loss: float) -> tuple[SpikeState, Verdict]:
        """The state after a finite loss, and what to make of it.

        Raises:
            ConfigurationError: the loss is not finite; whoever calls leaves such a step out.
        """
        if not math.isfinite(loss):
            raise ConfigurationError(f"{self.owner}: a loss of {loss} has no place in the window.")
        begin, end = self.limits(state)
        if loss <= (end if state.above else begin):
            return SpikeState((*state.window, loss)[-self.window :], 0), "normal"
        state = replace(state, above=state.above + 1)
        if state.above > self.patience:
            return state, "unrecovered"
        return state, "spike" if state.above == 1 else "above"
