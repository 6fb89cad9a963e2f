"""A checkpoint beside an epoch's edge: what Lightning leaves out, or does twice, when it goes on from there.

`ModelCheckpoint(every_n_train_steps=...)` writes one whenever its steps come out even with the batches of an epoch. To
Lightning (2.6.6, `_FitLoop.reset`) that epoch is over: its validation, its end and its line in every log never come.
Where they come out even with `val_check_interval`, it takes that validation for done (`_TrainingEpochLoop.advance`).

A fit that ends inside an epoch (`max_steps`, a stop, `max_time`) closes that epoch on the way out, and what is saved
from then on says that it is over: the batches that were left of it are then seen by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lacks_its_end(checkpoint: dict[str, Any]) -> bool:
    """Whether it was written in `on_train_batch_end` of the last batch of an epoch."""
    try:
        last = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
        return bool(last) and is_of_a_batchs_end(checkpoint)
    except (KeyError, TypeError):
        return False


def is_of_a_batchs_end(checkpoint: dict[str, Any]) -> bool:
    """Whether it was written in `on_train_batch_end`: a batch is processed there, and not yet completed."""
    try:
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"]["current"], loops["epoch_progress"]["current"]
        return bool(batches["completed"] == batches["processed"] - 1 and epochs["processed"] < epochs["started"])
    except (KeyError, TypeError):
        return False


def count_the_batch(checkpoint: dict[str, Any]) -> None:
    """The batch is done: then the epoch is one that goes on, behind its last batch."""
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for progress in (batches["total"], batches["current"]):
        progress["completed"] = progress["processed"]


def close_the_epoch(trainer: Any) -> None:
    """Has the loop go on with what follows the epoch's last batch: validation where it is due, the epoch's end."""
    loop = trainer.fit_loop.epoch_loop

    def no_batch(data_fetcher: Any) -> None:
        del loop.advance  # the class's own comes back
        loop.val_loop.restarting = False

    loop.advance = no_batch


def validate_if_due(trainer: Any) -> None:
    """Has the loop begin with what follows the checkpoint's batch: a plateau schedule's step, a validation."""
    loop = trainer.fit_loop.epoch_loop

    def no_batch_before_it(data_fetcher: Any) -> None:
        del loop.advance
        if not loop._should_check_val_fx(data_fetcher):
            # what follows the checkpoint's batch in `_TrainingEpochLoop.on_advance_end`
            loop.update_lr_schedulers("step", update_plateau_schedulers=True)
            loop.advance(data_fetcher)
            return
        loop.val_loop.restarting = False
        if not loop._should_accumulate():
            # counted at the restart already, and counted again behind the validation
            loop._batches_that_stepped -= 1

    loop.advance = no_batch_before_it


def is_of_an_epochs_end(checkpoint: Mapping[str, Any]) -> bool:
    """Whether an epoch is over in it: written in `on_train_epoch_end` or behind it, before another has begun."""
    try:
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        over = epochs["processed"] == epochs["started"] == epochs["ready"] > 0
        return bool(over and epochs["completed"] in (epochs["processed"], epochs["processed"] - 1))
    except (KeyError, TypeError):
        return False


def count_the_epoch(checkpoint: dict[str, Any]) -> None:
    """The epoch is over. A run with `max_steps` would go through its end once more, and leave out the next number."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for progress in (epochs["total"], epochs["current"]):
        progress["completed"] = progress["processed"]


def begin_the_next_epoch(trainer: Any) -> None:
    """A loop that is restarted goes on inside its epoch; with `max_steps` Lightning takes every resume for that."""
    loop = trainer.fit_loop
    loop._restarting = False  # its setter does not let a run with max_steps have it otherwise
    loop.epoch_loop.restarting = False


def was_cut_short(trainer: Any) -> bool:
    """Whether the epoch that is over, or is being closed, ended before its last batch because the fit did."""
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
    over = epochs.processed == epochs.started > 0 and not batches.is_last_batch
    # a loader that has fewer batches than it says ends its epoch by itself
    return bool(over and (trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step))


def is_of_a_cut_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether its last epoch counts as over, and ended before its last batch."""
    if not checkpoint.get(_CUT_SHORT, True) or not is_of_an_epochs_end(checkpoint):
        return False
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return not batches["is_last_batch"] and batches["current"]["ready"] > 0


def reopen_the_epoch(checkpoint: dict[str, Any]) -> bool:
    """Takes back that an epoch is over which was cut short; says whether it was, whoever asks first."""
    if checkpoint.get(_REOPENED, False):
        return True
    if not is_of_a_cut_epoch(checkpoint):
        return False
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for progress in (epochs["total"], epochs["current"]):
        progress["processed"] -= 1
        progress["completed"] = progress["processed"]
    checkpoint[_REOPENED] = True
    return True


def mark_if_cut_short(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Writes into a checkpoint of an epoch's end whether it came too early."""
    if is_of_an_epochs_end(checkpoint):
        checkpoint[_CUT_SHORT] = was_cut_short(trainer)


def train_before_validating(trainer: Any) -> None:
    """Has the loop begin with a batch: a validation that was due behind the checkpoint's is over."""
    loop = trainer.fit_loop.epoch_loop

    def batch_first(data_fetcher: Any) -> None:
        del loop.advance
        loop.restarting = False
        loop.advance(data_fetcher)

    loop.advance = batch_first


class ResumedEpoch:
    """Where the loop of a resumed run begins: inside an epoch that was cut short, or at the next one's first batch.

    For every callback by which a run's place in the data stands or falls; that several do it is as if one did.
    """

    def __init__(self) -> None:
        self.was_cut_short = False
        self._begins_an_epoch = False

    def load(self, trainer: Any, checkpoint: dict[str, Any]) -> None:
        """In `on_load_checkpoint`: Lightning reads its counters after it."""
        self.was_cut_short = reopen_the_epoch(checkpoint)
        self._begins_an_epoch = trainer.max_steps != -1 and is_of_an_epochs_end(checkpoint)
        if self._begins_an_epoch:
            count_the_epoch(checkpoint)

    def begin(self, trainer: Any) -> None:
        """In `on_train_start`, once."""
        if self.was_cut_short:
            train_before_validating(trainer)
        if self._begins_an_epoch:
            begin_the_next_epoch(trainer)
        self.was_cut_short = self._begins_an_epoch = False


_CUT_SHORT = "stablelit_cut_short"
_REOPENED = "stablelit_reopened"
