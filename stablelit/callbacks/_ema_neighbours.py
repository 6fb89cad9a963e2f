"""With whom averaged weights cannot be had: what would average wrongly, or save weights that nobody validated."""

from __future__ import annotations

from typing import Any

from stablelit.callbacks._snapshots import _SHARDED
from stablelit.errors import ConfigurationError


def refuse_neighbours(trainer: Any, callback: Any, owner: str) -> None:
    """Looks at the strategy and the other callbacks of a Trainer.

    Raises:
        ConfigurationError: a strategy whose ranks hold parts of the weights, a second averaging callback, or a
            checkpoint callback that saves weights without asking callbacks.
    """
    strategy = type(trainer.strategy)
    if {kind.__name__ for kind in strategy.__mro__} & _SHARDED:
        raise ConfigurationError(
            f"{owner}: with {strategy.__name__} a rank holds a part of the weights, and of no whole parameter an "
            f"average. Use DDP, or average when the run is over, over its checkpoints."
        )
    for other in trainer.callbacks:
        names = {kind.__name__ for kind in type(other).__mro__}
        averages = getattr(other, "averages_weights", False) or any(name.endswith("WeightAveraging") for name in names)
        if other is not callback and averages:
            raise ConfigurationError(
                f"{owner}: {type(other).__name__} averages the weights too, and the two would exchange each other's. "
                f"Keep one."
            )
        if getattr(other, "save_weights_only", False):
            raise ConfigurationError(
                f"{owner}: {type(other).__name__}(save_weights_only=True) asks no callback when it saves, so that its "
                f"files would hold the weights that are trained and not their average. Take save_weights_only=False: "
                f"`state_dict` of those files is the average."
            )
