"""Moves any scalar of any module along a schedule.

Runs    on_train_start, on_train_batch_start (the value is a pure function of the clock)
Reads   the Trainer's counters
Writes  the scalar at `target`: a float attribute or a 0-dim buffer
Logs    schedule/<target>, or schedule/<name>
Resumes exactly: a share of the run is resolved once and kept in the checkpoint
Limits  one writer a scalar; a Python float costs a recompilation under torch.compile, a buffer none
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._clock import RampClock
from stablelit.callbacks._scalar_writer import ScalarWriter, log_now
from stablelit.functional.schedules import Ramp


class ScalarSchedule(ScalarWriter):
    r"""Schedules a weight, a temperature, a rate: anything that is one number.

    .. math:: v(t) = v_0 + (v_1 - v_0)\, f\!\left(\mathrm{clip}\frac{t - t_{delay}}{t_{duration}}\right)

    Args:
        target: dotted path of the scalar, such as ``"loss.lambda_sparse"``.
        start: the value until `delay` is over.
        end: the value at the end of the ramp and from then on.
        duration: a clock string: ``500`` or ``"500st"`` optimizer steps, ``"800ba"``, ``"20ep"``, ``"0.1dur"``.
        delay: a clock string in the same unit.
        shape: linear, cosine, sigmoid, exponential, root, cyclical, step or constant.
        cycles: cycles of `cyclical`, rises of `step`.
        ramp_share: share of a cycle that rises.
        steepness: of `sigmoid` and `exponential`.
        eval_value: the value during validation, test and prediction; None leaves the scheduled one.
        allow_unfinished: accept a ramp that the planned run does not finish.
        name: distinguishes instances in logs.

    Raises:
        ConfigurationError: an argument out of range; a ramp longer than the run (when the fit begins).
        ContractError: the module has no such scalar, or it cannot be written.

    Example:
        >>> from stablelit import ScalarSchedule
        >>> callback = ScalarSchedule("temperature", start=1.0, end=0.1, duration="0.5dur", shape="exponential")
    """

    def __init__(
        self,
        target: str,
        start: float = 0.0,
        end: float = 1.0,
        duration: int | str = "1.0dur",
        delay: int | str = 0,
        shape: str = "linear",
        cycles: int = 4,
        ramp_share: float = 0.5,
        steepness: float | None = None,
        eval_value: float | None = None,
        allow_unfinished: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(target, name, eval_value)
        self.ramp = Ramp(start, end, shape, cycles, ramp_share, steepness, owner="ScalarSchedule")
        self.clock = RampClock(delay, duration, "ScalarSchedule")
        self.allow_unfinished = allow_unfinished

    def __repr__(self) -> str:
        return (
            f"ScalarSchedule({self.target!r}, {self.ramp.start:g} -> {self.ramp.end:g}, {self.ramp.shape}, "
            f"delay={self.clock.delay}, duration={self.clock.duration})"
        )

    @property
    def log_name(self) -> str:
        """The name under which the value is logged."""
        return f"schedule/{self.name or self.target}"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resolves the clock and sets the value: after a resume inside an epoch no epoch start comes."""
        self.clock.begin(trainer, self.allow_unfinished, "allow_unfinished")
        self._apply(trainer)

    def on_rollback(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The schedule follows the run's clock, which goes on."""
        self.clock.go_on()
        self._apply(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets the value of this batch."""
        self._apply(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the value that this batch had."""
        if log_now(trainer):
            pl_module.log(self.log_name, self.scalar.value, prog_bar=True, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """The clock, plain."""
        return {"clock": self.clock.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the clock of the run that is continued."""
        self.clock.load_state_dict(state_dict["clock"])

    def _apply(self, trainer: pl.Trainer) -> None:
        self.scalar.set(self.ramp.value(self.clock.progress(trainer)))
