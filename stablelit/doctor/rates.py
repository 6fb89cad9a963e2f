"""The learning rate that each step was made with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablelit.doctor.evidence import Curve


class LearningRates:
    """Reads the rates as optimizers step: when a batch is over, a schedule has changed them for the next one."""

    def __init__(self) -> None:
        self._of_batch: list[float] = []
        self._steps: list[float] = []
        self._rates: list[float] = []

    def optimizer_steps(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        for group in optimizer.param_groups:
            rate = group.get("lr")
            # a rate on a device is not waited for
            if isinstance(rate, float | int) or (isinstance(rate, Tensor) and rate.is_cpu):
                self._of_batch.append(float(rate))

    def step(self, step: int) -> None:
        """A step is over: the largest rate of all groups that have one is its rate."""
        if self._of_batch:
            self._steps.append(step)
            self._rates.append(max(self._of_batch))
            self._of_batch = []

    def flush(self, curves: dict[str, Curve]) -> None:
        """Adds those of the steps since to ``lr``."""
        if self._rates:
            curves.setdefault("lr", Curve()).extend(self._steps, self._rates)
            self._steps, self._rates = [], []
