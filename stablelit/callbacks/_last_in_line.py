"""Where in a Trainer's list a callback stands that saves what the others have done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def go_behind_the_others(trainer: Any, callback: Any) -> None:
    """Moves a callback behind all but those that Lightning keeps last, its checkpoint callbacks.

    What others do at the end of a batch (an average takes up the weights) is then in what it saves. One that ends the
    fit (`ends_the_fit`) stands behind those that do not: what follows it never comes.
    """
    saving = [c for c in trainer.callbacks if c in trainer.checkpoint_callbacks and c is not callback]
    others = [c for c in trainer.callbacks if c is not callback and c not in saving]
    order = [*others, callback]
    if not getattr(callback, "ends_the_fit", False):
        order.sort(key=lambda c: bool(getattr(c, "ends_the_fit", False)))
    trainer.callbacks = [*order, *saving]


def behind_the_savers(trainer: Any, action: Callable[[], None]) -> None:
    """Does something at the end of `on_train_epoch_end`, when the checkpoint callbacks have done theirs.

    Lightning calls them behind all others and behind the module, wherever they stand (2.6.6,
    `_FitLoop.on_advance_end`): what is saved before them does not know of the new best.
    """
    savers = [c for c in trainer.callbacks if c in trainer.checkpoint_callbacks]
    if not savers:
        action()
        return
    last = savers[-1]

    def and_then(*args: Any, **kwargs: Any) -> None:
        del last.on_train_epoch_end  # the class's own comes back
        last.on_train_epoch_end(*args, **kwargs)
        action()

    last.on_train_epoch_end = and_then
