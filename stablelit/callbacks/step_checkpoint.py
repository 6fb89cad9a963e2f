"""Saves checkpoints at named steps, which nobody deletes.

Runs    on_fit_start (goes behind the other callbacks), on_train_start, on_train_batch_end (saves, after a whole
        optimizer step), on_train_epoch_end (saves, where the step is an epoch's last: after its validation, and when
        ModelCheckpoint knows whether it was the best)
Reads   the Trainer's counters
Writes  step_<n>.ckpt in `directory`, else where ModelCheckpoint writes
Logs    nothing
Resumes exactly, from each of its files too; which steps are done is in the checkpoint, and none is saved again
Limits  a named step on which Ctrl-C ends the run is saved one step later, under that step's name
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from stablelit.callbacks._checkpoint_directory import checkpoint_directory
from stablelit.callbacks._clock import elapsed
from stablelit.callbacks._last_in_line import behind_the_savers, go_behind_the_others
from stablelit.callbacks._named_steps import NamedSteps
from stablelit.errors import bad_argument

_OWNER = "StepCheckpoint"


class StepCheckpoint(pl.Callback):
    """Keeps a run as it was at some steps, beside the best and the last checkpoint: to compare them when it is over.

    Args:
        steps: after which optimizer steps: ints, or clock strings ("2ep", "0.5dur").
        directory: where the files go; None is the first ModelCheckpoint's directory, else ``checkpoints/`` in the
            logger's directory.
        name: of a second instance: <name>_step_<n>.ckpt.

    Raises:
        ConfigurationError: no steps, or one that is no clock string above 0; a share of a run without a known length.

    Steps that the run does not come to are findings: `named-steps-beyond`, `named-steps-behind`.

    Example:
        >>> from stablelit import StepCheckpoint
        >>> callback = StepCheckpoint([10_000, 25_000, "0.5dur"])
    """

    keeps_books = True

    def __init__(self, steps: Sequence[int | str], directory: str | None = None, name: str | None = None) -> None:
        for what, given in (("directory", directory), ("name", name)):
            if given is not None and (not isinstance(given, str) or not given):
                raise bad_argument(_OWNER, what, given, "text, or None")
        self.directory, self.name = directory, name
        self._steps = NamedSteps(self.state_key, steps, kind="checkpoint")
        # of an epoch's end that others save before this does
        self._owed: int | None = None

    def __repr__(self) -> str:
        return f"{_OWNER}({self._steps})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Goes behind the other callbacks: what they do at the end of a batch is then in the file."""
        go_behind_the_others(trainer, self)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins, or goes on where a resumed run stopped."""
        self._steps.begin(trainer)
        owed, self._owed = self._owed, None
        if owed is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._copy(trainer, owed)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where a step has come."""
        # of a checkpoint made between an epoch's last batch and its validation Lightning skips the validation
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves where the epoch's last step was a named one."""
        if self._steps.due(trainer) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._owed = int(elapsed(trainer, "st"))
            behind_the_savers(trainer, lambda: self._save(trainer))

    def state_dict(self) -> dict[str, Any]:
        """Which steps are done, and which one is about to be."""
        return {**self._steps.state_dict(), "owed": self._owed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._steps.load_state_dict(state_dict)
        self._owed = state_dict.get("owed")

    def _save_if_due(self, trainer: Any) -> None:
        if self._steps.due(trainer) and not trainer.fast_dev_run:
            self._save(trainer)

    def _save(self, trainer: Any) -> None:
        self._owed = None
        # every rank takes part: parts of the state may be its own
        trainer.save_checkpoint(self._path(trainer, int(elapsed(trainer, "st"))))

    def _copy(self, trainer: Any, step: int) -> None:
        """Writes what a kill came before: the checkpoint that the run goes on from is one of that very step."""
        path, source = self._path(trainer, step), trainer.ckpt_path
        if not trainer.is_global_zero or path.exists() or source is None or not Path(source).is_file():
            return
        checkpoint = torch.load(source, map_location="cpu", weights_only=True)
        checkpoint["callbacks"][self.state_key]["owed"] = None
        path.parent.mkdir(parents=True, exist_ok=True)
        trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)

    def _path(self, trainer: Any, step: int) -> Path:
        prefix = f"{self.name}_" if self.name else ""
        return checkpoint_directory(trainer, self.directory) / f"{prefix}step_{step}.ckpt"
