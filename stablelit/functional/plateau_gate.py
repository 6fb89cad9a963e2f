"""When a curriculum may go on: once a validation metric has stopped to improve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number

_OWNER = "PlateauGate"


class GateState(NamedTuple):
    """Where a gate stands, as plain numbers.

    Args:
        best: the best value so far; NaN before the first.
        waited: validations since then.
        held: validations in a row that have left the gate shut.
        is_open: whether the ramp runs.
    """

    best: float = math.nan
    waited: int = 0
    held: int = 0
    is_open: bool = False


@dataclass(frozen=True)
class PlateauGate:
    """Shut while the model still learns at its difficulty, open when it does not (Kim et al., arXiv:2403.10348).

    The gate is shut at the beginning. A validation is an improvement if its metric beats the best one so far by more
    than `min_delta`. A validation leaves the gate open if it and the `patience` - 1 before it were no improvement; the
    next improvement shuts it. Where `max_hold` validations in a row have left it shut, the next one opens it in any
    case, so that a model that never stops improving gets on too: a ramp takes at most ``max_hold + 1`` times as long as
    without a gate. A value that is not finite shuts the gate and counts for neither number.

    Args:
        monitor: a validation metric that means the same at every difficulty, such as ``val/nll`` at full difficulty.
        mode: whether a smaller (`min`) or a larger (`max`) value is better.
        min_delta: smallest change that counts, 0 or more.
        patience: validations without improvement that open the gate, 1 or more.
        max_hold: most validations in a row that leave it shut, at least `patience`.

    Raises:
        ConfigurationError: an argument out of range; a metric of training, which the difficulty itself moves.

    Example:
        >>> gate, state = PlateauGate("val/nll", patience=1), GateState()
        >>> for value in (2.0, 1.0, 1.0):
        ...     state = gate.step(state, value)
        >>> state.is_open
        True
    """

    monitor: str
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0
    patience: int = 2
    max_hold: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise bad_argument(_OWNER, "monitor", self.monitor, "the name of a logged validation metric")
        if self.monitor.split("/")[0].split("_")[0] == "train":
            raise bad_argument(
                _OWNER,
                "monitor",
                self.monitor,
                "a validation metric at full difficulty",
                "A metric of training moves with the difficulty itself and cannot be compared over time.",
            )
        if self.mode not in get_args(Literal["min", "max"]):
            raise bad_argument(_OWNER, "mode", self.mode, "min or max")
        check_number(_OWNER, "min_delta", self.min_delta, at_least=0.0)
        check_count(_OWNER, "patience", self.patience, 1)
        # a gate that opens by max_hold first would never ask for a plateau
        check_count(_OWNER, "max_hold", self.max_hold, self.patience)

    def step(self, state: GateState, value: float) -> GateState:
        """The gate after a validation.

        Args:
            state: before it.
            value: the metric; not finite leaves the counters alone and shuts the gate.
        """
        if not math.isfinite(value):
            return state._replace(is_open=False)
        gain = state.best - value if self.mode == "min" else value - state.best
        improved = math.isnan(state.best) or gain > self.min_delta
        best = value if improved else state.best
        waited = 0 if improved else state.waited + 1
        is_open = waited >= self.patience or state.held >= self.max_hold
        return GateState(best, waited, 0 if is_open else state.held + 1, is_open)
