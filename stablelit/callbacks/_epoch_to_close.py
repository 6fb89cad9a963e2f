"""A checkpoint between an epoch's last batch and its end: what Lightning leaves out when it goes on from there.

`ModelCheckpoint(every_n_train_steps=...)` writes one whenever its steps come out even with the batches of an epoch. To
Lightning (2.6.6, `_FitLoop.reset`) that epoch is over: its validation, its end and its line in every log never come.
"""

from __future__ import annotations

from typing import Any


def lacks_its_end(checkpoint: dict[str, Any]) -> bool:
    """Whether it was written in `on_train_batch_end` of the last batch of an epoch."""
    try:
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]["current"]
        written_in_a_batch = batches["current"]["completed"] == batches["current"]["processed"] - 1
        return bool(batches["is_last_batch"] and written_in_a_batch and epochs["processed"] < epochs["started"])
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
