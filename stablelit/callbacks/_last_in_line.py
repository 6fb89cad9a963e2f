"""Where in a Trainer's list a callback stands that saves what the others have done."""

from __future__ import annotations

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
