"""When the doctor looks and when it judges, so that it costs no more than its budget."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

FIRST_LOOKS = 5
_LONGEST_WAIT = 200
_JUDGE_EVERY = 25
_UNKNOWN = -1


class LookClock:
    """Counts what a look costs beside a step, and says when the next one is affordable.

    The first `FIRST_LOOKS` steps are looked at, since what is exact shows there; the step after them is not, so that it
    is known what a step takes. Steps 8, 16, 32, 64, ... are looked at whatever that costs. Beside these, after n looks
    of cost c (the median of the last ones: one that the machine has held up says nothing) the next comes when
    ``n * c <= budget * T``, with T the time since training began, and ``c / (budget * t)`` steps of duration t after
    the last one, but never later than 200 steps after it. Judgements are spaced likewise, at 25 steps or more.

    Args:
        budget: share of the time of training that looks may take; judgements may take half as much again.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.every: int | None = None
        self._every_before: int | None = _UNKNOWN
        self._step_seconds: deque[float] = deque(maxlen=32)
        self._costs: deque[float] = deque(maxlen=FIRST_LOOKS)
        self._judgement_costs: deque[float] = deque(maxlen=3)
        self._next_look = self._next_judgement = 0
        self._looks, self._elapsed = 0, 0.0

    def begin(self, every: int | None) -> None:
        """Training begins, or goes on; looks are `every` steps apart, or as far as the budget says."""
        if self._every_before not in (every, _UNKNOWN):
            self._next_look = self._next_judgement = 0  # the next one is where the other distance put it
        self.every = self._every_before = every
        self._step_seconds.clear()
        self._costs.clear()
        self._judgement_costs.clear()
        self._looks, self._elapsed = 0, 0.0

    def wants_look(self, step: int) -> bool:
        """Whether this step is looked at."""
        if step >= self._next_look or step < FIRST_LOOKS:
            return True
        # at 8, 16, 32, ... too: early trouble is seen early, and the cost of it is lost in a run of any length
        return step & (step - 1) == 0 and step >= 8 and self.every is None

    def wants_judgement(self, step: int) -> bool:
        """Whether every rule is checked after this step."""
        return step >= self._next_judgement

    def add_step(self, seconds: float) -> None:
        """A step without a look took so long."""
        self._step_seconds.append(seconds)
        self._elapsed += seconds

    def looked(self, step: int, step_seconds: float, look_seconds: float) -> None:
        """A look is over.

        Args:
            step: at which it was.
            step_seconds: what the step took with it; hooks on layers, whose time nobody counts, are in it.
            look_seconds: what is known to have gone into looking.
        """
        plain = statistics.median(self._step_seconds) if self._step_seconds else step_seconds
        self._costs.append(max(look_seconds, step_seconds - plain))
        self._looks += 1
        self._elapsed += plain
        cost = statistics.median(self._costs)
        # what the looks before have cost is paid for first
        owed = self._looks * cost - self.budget * self._elapsed
        self._next_look = step + (self.every or self._distance(max(cost, owed), 1))

    def judged(self, step: int, seconds: float, suspects: bool = False) -> None:
        """A judgement after this step has cost so much; where it suspects something, the next one comes soon."""
        # one that the machine has held up says nothing of the next
        self._judgement_costs.append(seconds)
        distance = _JUDGE_EVERY if suspects else self._distance(2.0 * min(self._judgement_costs), _JUDGE_EVERY)
        self._next_judgement = step + (self.every or distance)

    def state_dict(self) -> dict[str, int | None]:
        """When it is next."""
        return {"look": self._next_look, "judgement": self._next_judgement, "every": self.every}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self._next_look, self._next_judgement = state["look"], state["judgement"]
        self._every_before = state["every"]

    def _distance(self, seconds: float, least: int) -> int:
        if not self._step_seconds:
            # steps between, which show what one takes; the eighth is looked at in any case
            return max(least, 4)
        affordable = self.budget * statistics.median(self._step_seconds)
        return min(max(math.ceil(seconds / max(affordable, 1e-9)), least), max(_LONGEST_WAIT, least))
