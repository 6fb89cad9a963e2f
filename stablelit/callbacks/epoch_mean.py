"""Keeps the running means of an epoch in the checkpoint, so that a run resumed inside it logs the whole epoch's.

Runs    on_save_checkpoint (keeps), on_train_batch_end (adds, after the first resumed batch)
Reads   the running sums behind `log(..., on_epoch=True)`
Writes  the same
Logs    nothing
Resumes exactly: the sums are added in the order in which the uninterrupted run adds them
Limits  means, sums, maxima and minima of numbers; a torchmetrics Metric keeps its own state (make it persistent); the
        same number of ranks as before
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch

from stablelit.callbacks._ranks import gather_from_ranks

_KEY = "stablelit_epoch_mean"


class EpochMeanCheckpoint(pl.Callback):
    """Without it the epoch in which a run was interrupted is logged with the mean over its second part alone.

    Lightning keeps these sums out of its checkpoints, so this reads them where `log` collects them.

    Example:
        >>> from stablelit.callbacks import EpochMeanCheckpoint
        >>> callback = EpochMeanCheckpoint()
    """

    keeps_books = True

    def __init__(self) -> None:
        self._pending: dict[str, dict[str, float]] = {}
        self._loaded: list[dict[str, dict[str, float]]] | None = None

    def __repr__(self) -> str:
        return "EpochMeanCheckpoint()"

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the sums of every rank."""
        checkpoint[_KEY] = gather_from_ranks(trainer, running_sums(trainer))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers them until the first batch has been logged."""
        self._loaded = checkpoint.get(_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes this rank's sums."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None and len(loaded) == trainer.world_size:
            self._pending = dict(loaded[trainer.global_rank])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new epoch owes nothing to the one before; after a resume inside an epoch this is not called."""
        self._pending = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the sums to those that the first resumed batch has begun."""
        if self._pending:
            pending, self._pending = self._pending, {}
            add_running_sums(trainer, pending)


def running_sums(trainer: Any) -> dict[str, dict[str, float]]:
    """The sums of the running training epoch by hook and name, as plain numbers."""
    sums = {}
    for key, result in _training_results(trainer).items():
        if result.is_tensor and result.meta.on_epoch and not result.has_reset and not result.meta.is_custom_reduction:
            sums[key] = {"value": result.value.item()}
            if result.meta.is_mean_reduction:
                sums[key]["weight"] = float(result.cumulated_batch_size)
    return sums


def add_running_sums(trainer: Any, sums: dict[str, dict[str, float]]) -> None:
    """Combines saved sums with those that have begun, by each value's own reduction."""
    for key, result in _training_results(trainer).items():
        if key not in sums or not result.is_tensor:
            continue
        value = torch.as_tensor(sums[key]["value"], dtype=result.value.dtype, device=result.value.device)
        if result.meta.is_max_reduction or result.meta.is_min_reduction:
            result.value = result.meta.reduce_fx(value, result.value)
        else:
            result.value = value + result.value
        if result.meta.is_mean_reduction:
            result.cumulated_batch_size = result.cumulated_batch_size + int(sums[key]["weight"])
        result._computed = None


def _training_results(trainer: Any) -> dict[str, Any]:
    results: dict[str, Any] = trainer.fit_loop.epoch_loop._results
    return results
