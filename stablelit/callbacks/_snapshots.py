"""The last good states of a fit, in the memory of the host, and the way back to one of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError

# of what a checkpoint holds: where the run is, and what does not change
_LEFT_OUT = ("loops", "hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters")
# Lightning's own that keep books of the run, by name because there are two Lightnings
_BOOKKEEPERS = {"Checkpoint", "EarlyStopping", "Timer", "ProgressBar", "ModelSummary"}
_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy", "XLAFSDPStrategy"}


@dataclass
class Snapshot:
    """One state.

    Args:
        step: optimizer steps before it.
        rollbacks: how often the run had been rolled back.
        checkpoint: what Lightning's connector restores from, on the host.
        structure: parameters in each group of each optimizer; another one cannot be restored.
        confirmed: whether a good step has followed: the loss of a step says how good the state *before* it was.
    """

    step: int
    rollbacks: int
    checkpoint: dict[str, Any]
    structure: list[list[int]]
    confirmed: bool = False

    @property
    def nbytes(self) -> int:
        """Host memory that it takes."""
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in _tensors(self.checkpoint)}.values())


class SnapshotRing:
    """A bounded number of snapshots, newest last.

    Args:
        keep: how many.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.snapshots: list[Snapshot] = []

    def take(self, trainer: Any, rollbacks: int) -> None:
        """Copies model, optimizers, schedulers, scaler and the callbacks that are part of the training to the host.

        From a GPU the copies go into pinned memory without the host waiting; the device does the copying before the
        step that comes next (written for that; not run on a GPU).
        """
        with _training_callbacks(trainer):
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        for name in _LEFT_OUT:
            checkpoint.pop(name, None)
        snapshot = Snapshot(trainer.global_step, rollbacks, _on_host(checkpoint, {}), _structure(trainer))
        # one too many for a moment: a copy that fails must not cost the last good state
        self.snapshots = [*self.snapshots, snapshot][-self.keep :]

    def confirm(self) -> None:
        """The step after the last snapshot was good."""
        for snapshot in self.snapshots:
            snapshot.confirmed = True

    def choose(self, trainer: Any) -> Snapshot | None:
        """The newest that is known to be good, else the oldest; None where none fits the optimizers any more."""
        structure = _structure(trainer)
        fitting = [s for s in self.snapshots if s.structure == structure]
        confirmed = [s for s in fitting if s.confirmed]
        return confirmed[-1] if confirmed else fitting[0] if fitting else None

    def used(self, snapshot: Snapshot) -> None:
        """Forgets those after it, and it too where an older one is left: twice the same way leads to the same place."""
        at = self.snapshots.index(snapshot)
        self.snapshots = self.snapshots[: max(at, 1)]


def restore(trainer: Any, snapshot: Snapshot) -> None:
    """Puts a state back through the Trainer's own connector; counters and the place in the data go on."""
    connector = trainer._checkpoint_connector
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.current_stream().synchronize()
    # a copy: what is loaded becomes the state that is trained on, and the snapshot may be needed again
    connector._loaded_checkpoint = _copied(snapshot.checkpoint, {})
    try:
        with _training_callbacks(trainer):
            connector.restore_model()
            connector.restore_callbacks()
            connector.restore_precision_plugin_state()
            connector.restore_optimizers_and_schedulers()
            callbacks = list(trainer.callbacks)
    finally:
        connector._loaded_checkpoint = {}
    for callback in callbacks:
        follow = getattr(callback, "on_rollback", None)
        if callable(follow):
            follow(trainer, trainer.lightning_module)


def keeps_books(callback: Any) -> bool:
    """Whether a callback writes down what happened, which a rollback does not undo, and is no part of the training.

    Its class says so (`keeps_books = True`); else a monitor does by its name, and those of Lightning's that do.
    """
    said = getattr(callback, "keeps_books", None)
    if said is not None:
        return bool(said)
    names = {kind.__name__ for kind in type(callback).__mro__}
    return bool(names & _BOOKKEEPERS) or any(name.endswith("Monitor") for name in names)


def is_sharded(strategy: Any) -> bool:
    """Whether each rank of a strategy holds a part of the weights."""
    return bool({kind.__name__ for kind in type(strategy).__mro__} & _SHARDED)


def refuse_sharded(trainer: Any, owner: str) -> None:
    """A snapshot holds a whole state.

    Raises:
        ConfigurationError: a strategy whose ranks hold parts of it.
    """
    if is_sharded(trainer.strategy):
        raise ConfigurationError(
            f"{owner}: policy='rollback' with {type(trainer.strategy).__name__}, whose ranks hold a part of the state "
            f"each: there is no whole one to keep in memory. Use policy='stop' and go on from a checkpoint "
            f"(ModelCheckpoint(every_n_train_steps=...)), policy='skip', or DDP."
        )


@contextmanager
def _training_callbacks(trainer: Any) -> Iterator[None]:
    """Lets the connector see only those callbacks that are part of the training."""
    everything = trainer.callbacks
    trainer.callbacks = [callback for callback in everything if not keeps_books(callback)]
    try:
        yield
    finally:
        trainer.callbacks = everything


def _structure(trainer: Any) -> list[list[int]]:
    return [[len(group["params"]) for group in optimizer.param_groups] for optimizer in trainer.optimizers]


def _on_host(value: Any, memo: dict[Any, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _once(value, memo, _to_host)
    return _mapped(value, lambda part: _on_host(part, memo))


def _copied(value: Any, memo: dict[Any, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _once(value, memo, torch.clone)
    return _mapped(value, lambda part: _copied(part, memo))


def _once(value: Tensor, memo: dict[Any, Tensor], copy_of: Any) -> Tensor:
    """One copy of tied weights, as of a tensor that is there under two names."""
    key = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
    if value.numel() == 0 or key not in memo:
        memo[key] = copy_of(value.detach())
    return memo[key]


def _to_host(value: Tensor) -> Tensor:
    if value.device.type != "cuda":
        return value.to("cpu", copy=True)
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return host.copy_(value, non_blocking=True)


def _mapped(value: Any, function: Any) -> Any:
    if isinstance(value, dict):
        made = copy.copy(value)  # keeps the class, and what torch writes beside a state_dict's items
        for key, part in value.items():
            made[key] = function(part)
        return made
    if type(value) in (list, tuple):
        return type(value)(function(part) for part in value)
    return copy.deepcopy(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
