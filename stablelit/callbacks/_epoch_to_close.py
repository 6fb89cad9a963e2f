"""A checkpoint between a batch and what follows it: what Lightning leaves out when it goes on from there.

`ModelCheckpoint(every_n_train_steps=...)` writes one whenever its steps come out even with the batches of an epoch. To
Lightning (2.6.6, `_FitLoop.reset`) that epoch is over: its validation, its end and its line in every log never come.
Where they come out even with `val_check_interval`, it takes that validation for done (`_TrainingEpochLoop.advance`).
"""

from __future__ import annotations

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
    """Has the loop begin with the validation that is due behind the checkpoint's batch, if one is."""
    loop = trainer.fit_loop.epoch_loop

    def no_batch_before_it(data_fetcher: Any) -> None:
        del loop.advance
        if not loop._should_check_val_fx(data_fetcher):
            loop.advance(data_fetcher)
            return
        loop.val_loop.restarting = False
        if not loop._should_accumulate():
            # counted at the restart already, and counted again behind the validation
            loop._batches_that_stepped -= 1

    loop.advance = no_batch_before_it


def is_of_an_epochs_end(checkpoint: dict[str, Any]) -> bool:
    """Whether it was written in `on_train_epoch_end`, where epochs are counted as processed and not as completed."""
    try:
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        return bool(epochs["processed"] == epochs["started"] == epochs["completed"] + 1)
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
