"""Where a callback that saves a checkpoint of its own puts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stablelit.findings import findings_directory


def checkpoint_directory(trainer: Any, directory: str | None = None) -> Path:
    """`directory`, else the first ModelCheckpoint's, else ``checkpoints/`` in the logger's."""
    if directory:
        return Path(directory)
    for callback in trainer.checkpoint_callbacks:
        if getattr(callback, "dirpath", None):
            return Path(callback.dirpath)
    return findings_directory(trainer) / "checkpoints"


def save_last_good(trainer: Any, pl_module: Any, name: str) -> str:
    """Writes a checkpoint, unless the weights are not finite; returns a sentence that says where, or why not.

    Every rank calls it.
    """
    if trainer.fast_dev_run:
        return ""
    finite = all(bool(parameter.detach().isfinite().all()) for parameter in pl_module.parameters())
    if not trainer.strategy.reduce_boolean_decision(finite, all=True):
        return " The weights themselves are not finite: go on from an earlier checkpoint."
    path = checkpoint_directory(trainer) / name
    trainer.save_checkpoint(path)
    return f" The state before it is in {path}."
