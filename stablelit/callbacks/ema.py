"""Averages the weights over the course of training, validates the average and saves it.

Runs    on_train_batch_start (parameters that were unfrozen), on_train_batch_end (one update), around every validation
        of a fit (the average takes the weights' place), on_save_checkpoint, on_train_end
Reads   trainable parameters; buffers are not averaged: counters, schedules, batch-norm statistics are the live ones
Writes  the parameters, while validating and at the end; `state_dict` of checkpoints
Logs    nothing of its own; with validate="both" what validation logs once more as <name>_raw
Resumes exactly: both sets of weights and the clock are in the checkpoint
Limits  one more copy of the parameters, a second while validating; in on_validation_end only callbacks that are listed
        before it still see the average; no sharded strategies; the GPU path was not run
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn

from stablelit.callbacks._clock import RampClock, elapsed, planned
from stablelit.callbacks._ema_decay import EMADecay
from stablelit.callbacks._ema_neighbours import refuse_neighbours
from stablelit.callbacks._raw_twin import RawTwin
from stablelit.callbacks._weight_average import WeightAverage
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.findings import Action, FindingReporter
from stablelit.functional.schedules import CLOCK_UNITS

Validate = Literal["ema", "raw", "both"]
AfterFit = Literal["ema", "raw"]
_OWNER = "EMACallback"


class EMACallback(pl.Callback):
    r"""Keeps :math:`\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta` of the trainable parameters, in float32.

    The average of the first n updates forgets where training began: :math:`d_n = \min(d, (1 + n)/(10 + n))`
    (:func:`stablelit.functional.averaging.ema_decay`). A parameter that is frozen is its own average until it is
    unfrozen; tied parameters are averaged once.

    Checkpoints have the layout of Lightning's `EMAWeightAveraging`: `state_dict` is the average, so that whoever loads
    the file without this callback has the weights that were validated; `current_model_state` is what training goes on
    with. Each loads what the other has saved.

    `validate="both"` costs a second forward pass on every validation batch and a copy of the module for the time of a
    validation; the module's hooks for validation batches and for the end of the epoch run on the copy too.

    Args:
        decay: d in [0, 1), of one update; None is 0.9999, or what `half_life` says.
        half_life: in the place of `decay`, a clock string: how long until a weight's share in the average has halved.
        warm_up: whether d grows to its value with the number of updates.
        every: optimizer steps from one update to the next.
        delay: a clock string: when the average begins. Until then the weights that are trained are validated and saved.
        validate: which weights a validation of the fit is made with. `both` validates the average, as `ema`, and logs
            every value once more for the weights that are trained, as ``val/loss_raw``.
        after_fit: which weights the module has when the fit is over, for `test`, `predict` and whoever uses it then.
        action: what a finding does: `warn`, `stop` or `raise`. Finding: `average-remembers-the-start`.

    Raises:
        ConfigurationError: an argument out of range; a second averaging callback, a sharded strategy, or a checkpoint
            callback with `save_weights_only`, which would save weights that nobody validated (before the fit); a delay
            that is longer than the run.

    Example:
        >>> from stablelit import EMACallback
        >>> callback = EMACallback(half_life="0.02dur", validate="both")
    """

    # for who puts callbacks in order, and for modules whose weights must not be averaged
    averages_weights = True

    def __init__(
        self,
        decay: float | None = None,
        half_life: int | str | None = None,
        warm_up: bool = True,
        every: int = 1,
        delay: int | str = 0,
        validate: Validate = "ema",
        after_fit: AfterFit = "ema",
        action: Action = "warn",
    ) -> None:
        self._decay = EMADecay(decay, half_life, warm_up, every, _OWNER)
        self._delay = RampClock(delay, 0, _OWNER, delay_name="delay")
        for name, value, allowed in (("validate", validate, Validate), ("after_fit", after_fit, AfterFit)):
            if value not in get_args(allowed):
                hint = did_you_mean(str(value), get_args(allowed))
                raise bad_argument(_OWNER, name, value, ", ".join(get_args(allowed)), hint)
        self.validate, self.after_fit = validate, after_fit
        self._reporter = FindingReporter(_OWNER, action)
        self._average: WeightAverage | None = None
        self._twin: RawTwin | None = None
        self._last_step = 0
        self._is_training = False

    def __repr__(self) -> str:
        return f"{_OWNER}({self._decay}, every={self._decay.every}, validate={self.validate!r})"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuses what cannot work; the average itself waits until the module is on its device."""
        if stage == "fit":
            refuse_neighbours(trainer, self, _OWNER)
            self._average, self._twin, self._last_step = WeightAverage(_OWNER), None, 0
            self._decay.forget()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes the average out of `state_dict`, and gives the module the weights to go on with."""
        if self._average is None or trainer.state.fn != "fit":
            return
        if "current_model_state" in checkpoint and "averaging_state" in checkpoint:
            self._average.read(checkpoint)
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)
        else:
            rank_zero_warn(f"{_OWNER}: this checkpoint has no average, so that a new one begins with its weights.")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins, or goes on, on the device where the parameters now are."""
        assert self._average is not None
        self._begin_clocks(trainer)
        self._average.follow(pl_module)
        self._is_training = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up parameters that are new."""
        assert self._average is not None
        self._average.follow(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Takes up parameters that were unfrozen, before a step changes them."""
        assert self._average is not None
        self._average.follow_unfrozen(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One update where an optimizer step has been taken since the last."""
        assert self._average is not None
        step = int(elapsed(trainer, "st"))
        if step > self._last_step and step % self._decay.every == 0 and self._delay.progress(trainer) >= 1.0:
            self._average.update(self._decay.now(self._average.n_averaged))
            self._last_step = step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the average in."""
        if self._validates(trainer) and self.validate != "raw":
            assert self._average is not None
            self._average.put_in()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Makes the twin, when everybody has set the module up for validation."""
        average = self._average
        wanted = self.validate == "both" and self._twin is None and self._validates(trainer)
        if wanted and average is not None and average.is_in_place:
            self._twin = RawTwin(_OWNER, pl_module, average.raw())

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validates the same batch with the weights that are trained."""
        if self._twin is not None:
            self._twin.step(trainer, batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what the twin knows at the end."""
        if self._twin is not None:
            self._twin.finish()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the weights back."""
        if self._validates(trainer):
            self._put_back()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the module with the weights that `after_fit` says."""
        assert self._average is not None
        self._is_training = False
        if self.after_fit == "ema":
            self._average.put_in()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Puts the weights back, also where validation was broken off."""
        if self._is_training:
            self._put_back()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of the device's memory; a checkpoint that is saved after the fit is still whole."""
        if stage == "fit" and self._average is not None:
            self._average.to_host()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves both sets of weights."""
        if self._average is not None:
            self._average.write(checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """The clock, and what was reported; the number of updates is with the weights."""
        return {
            "latest_update_step": self._last_step,
            "delay": self._delay.state_dict(),
            "decay": self._decay.state_dict(),
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._last_step = int(state_dict["latest_update_step"])
        self._delay.load_state_dict(state_dict["delay"])
        self._decay.load_state_dict(state_dict["decay"])
        self._reporter.load_state_dict(state_dict["findings"])

    def _begin_clocks(self, trainer: pl.Trainer) -> None:
        self._delay.begin(trainer, True, "")
        self._decay.begin(trainer)
        delay = self._delay.delay
        length = planned(trainer, delay.unit)
        if delay.amount >= length and delay.amount and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ConfigurationError(
                f"{_OWNER}: delay={delay} lasts as long as the run of {length:g} {CLOCK_UNITS[delay.unit]}, so that "
                f"nothing would ever be averaged. Shorten it, or write it as a share ('0.5dur')."
            )
        finding = self._decay.finding(trainer, delay.amount if delay.unit == "st" else 0.0)
        if finding is not None:
            self._reporter.report(trainer, finding)

    def _validates(self, trainer: pl.Trainer) -> bool:
        """Whether this is a validation of the fit: before training there is no average, and after it no need."""
        return self._is_training and trainer.state.fn == "fit" and not trainer.sanity_checking

    def _put_back(self) -> None:
        self._twin = None
        if self._average is not None:
            self._average.take_out()
