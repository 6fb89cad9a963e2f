"""A resume with another learning rate, schedule or optimizer trains with what it was asked for.

Runs    on_load_checkpoint, on_fit_start (before the saved states are put back), on_train_start
Reads   optimizers and schedules as they are built
Writes  their states in the checkpoint that is being restored, where a setting was changed
Logs    nothing; says each change once
Resumes exactly where nothing was changed: then nothing is touched
Limits  a schedule that knows its rates only step by step goes on from the rate that was reached; a checkpoint that was
        written without this callback says nothing of what was asked for then, and nothing is changed
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._optimizer_settings import settings_of, stand_at, take_into_optimizer, take_into_schedule


class OptimizerSettings(pl.Callback):
    """Without it a new learning rate is read, shown, written down, and not used.

    A checkpoint has the optimizer's settings beside its averages, and Lightning puts both back: `lr`, `weight_decay`,
    `momentum`, a schedule's length are those of the run that began, whatever the resumed one asks for. Here the
    settings that differ from those that the run was built with are taken:

    =====================================  ===========================================================================
    learning rate, weight decay, momentum  taken; the averages of the optimizer go on, the schedule at its place
    another class of optimizer             taken; its averages begin anew, and that is said
    another schedule, another length       taken; it stands where it would after the steps that were trained
    no schedule any more                   the rate that is asked for
    =====================================  ===========================================================================

    Example:
        >>> from stablelit import OptimizerSettings
        >>> callback = OptimizerSettings()
    """

    keeps_books = True

    def __init__(self) -> None:
        self._built: dict[str, Any] | None = None
        self._then: dict[str, Any] | None = None
        self._checkpoint: dict[str, Any] | None = None
        self._stand_at_its_place = False

    def __repr__(self) -> str:
        return "OptimizerSettings()"

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps what is being restored until the optimizers are there."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Holds what is built against what was built, and changes what is about to be put back."""
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._built = settings_of(trainer.optimizers, schedules)
        checkpoint, self._checkpoint = self._checkpoint, None
        self._stand_at_its_place = False
        if checkpoint is None or self._then is None or "optimizer_states" not in checkpoint:
            return
        then, now, told = self._then, self._built, []
        if len(then["optimizers"]) == len(now["optimizers"]) == len(checkpoint["optimizer_states"]):
            for i, optimizer in enumerate(trainer.optimizers):
                saved = checkpoint["optimizer_states"][i]
                told += take_into_optimizer(saved, then["optimizers"][i], now["optimizers"][i], optimizer.state_dict())
        told += self._take_schedules(trainer, checkpoint, then, now, bool(told))
        if told and trainer.is_global_zero:
            print(f"Changed since this run began, and taken: {'; '.join(told)}.", flush=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts schedules that were changed where they are after the steps that were trained."""
        if not self._stand_at_its_place:
            return
        for config in trainer.lr_scheduler_configs:
            count = len(trainer.optimizers) or 1
            steps = trainer.global_step // count if config.interval == "step" else trainer.current_epoch
            stand_at(config.scheduler, steps // max(1, config.frequency))

    def state_dict(self) -> dict[str, Any]:
        """What optimizers and schedules were built with."""
        return {"built": self._built} if self._built is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what they were built with when the run began, or when it was last changed."""
        self._then = state_dict["built"]

    def _take_schedules(
        self, trainer: Any, checkpoint: dict[str, Any], then: dict[str, Any], now: dict[str, Any], changed: bool
    ) -> list[str]:
        before, after = then["schedules"], now["schedules"]
        if not after:
            if before:
                for saved, built in zip(checkpoint["optimizer_states"], now["optimizers"], strict=True):
                    for group, settings in zip(saved["param_groups"], built["groups"], strict=True):
                        group["lr"] = settings["rate"]
                return ["no learning-rate schedule any more: the rate is the one that is asked for"]
            return []
        told: list[str] = []
        states = checkpoint["lr_schedulers"]
        if [s["class"] for s in before] != [s["class"] for s in after]:
            checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
            for state in checkpoint["lr_schedulers"]:
                _take_rates(state, checkpoint)
            told.append("the learning-rate schedule, which stands where it would after the steps that were trained")
        else:
            for state, was, is_now in zip(states, before, after, strict=True):
                told += take_into_schedule(state, was, is_now)
                if changed:
                    _take_rates(state, checkpoint)
        self._stand_at_its_place = bool(told) or changed
        return told


def _take_rates(state: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    """The rates that a schedule starts from are its own copy of the optimizer's."""
    for saved in checkpoint["optimizer_states"]:
        rates = [group.get("initial_lr", group["lr"]) for group in saved["param_groups"]]
        if "base_lrs" in state and len(state["base_lrs"]) == len(rates):
            state["base_lrs"] = rates
        if "_last_lr" in state:
            state["_last_lr"] = [group["lr"] for group in saved["param_groups"]]
