"""A run directory that was moved since, as ModelCheckpoint is to see it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


class MovedCheckpoints(pl.Callback):
    """Tells ModelCheckpoint where its files are now, in a run directory that was moved since.

    Without it ModelCheckpoint finds another directory in its saved state and forgets which checkpoint was the best; the
    first epoch after the resume would then overwrite it.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Runs before the callbacks get their state back."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            here = getattr(callback, "dirpath", None)
            there = (state or {}).get("dirpath")
            if here and there and str(here) != str(there):
                moved = {name: _moved(value, str(there), str(here)) for name, value in state.items()}
                checkpoint["callbacks"][callback.state_key] = moved


def _moved(value: Any, there: str, here: str) -> Any:
    if isinstance(value, str):
        return here + value[len(there) :] if value.startswith(there) else value
    if isinstance(value, dict):
        return {_moved(k, there, here): _moved(v, there, here) for k, v in value.items()}
    return value
