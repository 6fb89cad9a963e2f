"""Keeps the gradients of an optimizer step that is not whole yet, so that a resumed run takes the step on all of them.

Runs    on_train_batch_start, on_after_backward, on_before_optimizer_step (mark), on_save_checkpoint (keeps),
        on_train_start (puts back)
Reads   the gradients, where a checkpoint falls between two batches of one accumulated step
Writes  the same
Logs    nothing
Resumes exactly on one device; on several each goes on from the mean over them, which is the same step up to rounding
Limits  the copy is as large as the weights, and in those checkpoints alone; sharded strategies keep none, and that is
        said; a checkpoint that an error leaves inside a batch has none either: they are not those of whole batches
"""

from __future__ import annotations

import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._snapshots import is_sharded

_KEY = "stablelit_accumulation"


class AccumulationCheckpoint(pl.Callback):
    """Lets a run go on exactly from a checkpoint inside a step of ``accumulate_grad_batches``.

    Such are written by a validation inside an epoch (`val_check_interval`) and by `train_time_interval`. Lightning
    keeps no gradients: the first step after the resume is taken on the batches that were left of it, and the ones
    before count for nothing. Manual optimisation is covered: a step is open from `manual_backward` to `step`.

    Example:
        >>> from stablelit import AccumulationCheckpoint
        >>> callback = AccumulationCheckpoint()
    """

    keeps_books = True

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._backward_in_batch = False
        self._gradients: dict[str, Tensor] | None = None
        self._told = False

    def __repr__(self) -> str:
        return "AccumulationCheckpoint()"

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers the gradients until training begins."""
        self._gradients = checkpoint.get(_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts them back, once."""
        gradients, self._gradients = self._gradients, None
        self._open, self._backward_in_batch = set(), False
        if not gradients:
            return
        parameters = dict(pl_module.named_parameters())
        for name in sorted(gradients.keys() & parameters.keys()):
            parameter = parameters[name]
            parameter.grad = gradients[name].to(parameter.device, parameter.dtype).clone()
        self._open = set(range(len(trainer.optimizers)))
        unknown = sorted(gradients.keys() - parameters.keys())
        if unknown:
            warnings.warn(
                f"AccumulationCheckpoint: the checkpoint has gradients of an open step for {len(unknown)} parameters "
                f"that {type(pl_module).__name__} does not have, such as {unknown[0]}; they are left out.",
                stacklevel=2,
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Up to here the gradients are those of whole batches."""
        self._backward_in_batch = False

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every optimizer now has a step to take."""
        self._open = set(range(len(trainer.optimizers)))
        self._backward_in_batch = True

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """This one takes it."""
        self._open -= {index for index, one in enumerate(trainer.optimizers) if one is optimizer}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the gradients that wait for their step."""
        mine = self._waiting(trainer, pl_module)
        names = sorted(set().union(*gather_from_ranks(trainer, sorted(mine))))
        if not names:
            return
        if is_sharded(trainer.strategy):
            self._tell(trainer)
            return
        parameters = dict(pl_module.named_parameters())
        kept = {}
        for name in names:
            gradient = mine[name].detach() if name in mine else torch.zeros_like(parameters[name])
            if trainer.world_size > 1:
                gradient = trainer.strategy.reduce(gradient.clone(), reduce_op="mean")  # type: ignore[assignment]
            kept[name] = gradient.cpu().clone()
        checkpoint[_KEY] = kept

    def _waiting(self, trainer: Any, pl_module: Any) -> dict[str, Tensor]:
        """The gradients of the parameters of those optimizers that have a step open, live."""
        batch = trainer.fit_loop.epoch_loop.batch_progress.current
        if not self._open or (self._backward_in_batch and batch.processed < batch.ready):
            return {}
        open_to = [trainer.optimizers[index] for index in sorted(self._open) if index < len(trainer.optimizers)]
        theirs = {id(p) for optimizer in open_to for group in optimizer.param_groups for p in group["params"]}
        named = pl_module.named_parameters()
        return {name: p.grad for name, p in named if id(p) in theirs and p.grad is not None}

    def _tell(self, trainer: Any) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"AccumulationCheckpoint: this checkpoint falls inside an accumulated step, and the gradients of "
                f"{type(trainer.strategy).__name__} are parts that only it can put together: a run that goes on from "
                f"here takes one step on the batches that are left. Let checkpoints fall on whole steps: a "
                f"val_check_interval that is a multiple of accumulate_grad_batches.",
                stacklevel=2,
            )
