"""The learning rate that each step was made with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablelit.doctor.evidence import Curve


class LearningRates:
    """Reads the rates as optimizers step: when a batch is over, a schedule has changed them for the next one."""

    def __init__(self) -> None:
        self._rates: list[float] = []

    def optimizer_steps(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        for group in optimizer.param_groups:
            rate = group.get("lr")
            # a rate on a device is not waited for
            if isinstance(rate, int | float) or (isinstance(rate, Tensor) and rate.device.type == "cpu"):
                self._rates.append(float(rate))

    def flush(self, curves: dict[str, Curve], step: int) -> None:
        """Adds the largest of all groups that have one to ``lr``."""
        rates, self._rates = self._rates, []
        if rates:
            if "lr" not in curves:
                curves["lr"] = Curve()
            curves["lr"].add(step, max(rates))
