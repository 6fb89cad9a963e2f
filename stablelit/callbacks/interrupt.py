"""Ctrl-C ends a run at a batch boundary and keeps what was trained.

Runs    on_fit_start (takes the signal, and goes behind the other callbacks), on_train_batch_end (saves and leaves),
        on_fit_end, on_exception (gives it back)
Reads   SIGINT
Writes  last.ckpt in `directory`, else where ModelCheckpoint writes
Logs    nothing
Resumes the checkpoint lies between two optimizer steps, so a resume is exact
Limits  main thread only; during validation the run ends at the first training batch after it; a second Ctrl-C ends it
        at once, without saving
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._checkpoint_directory import checkpoint_directory
from stablelit.callbacks._last_in_line import go_behind_the_others

# ranks agree on an interrupt together, which costs them a wait for each other; not at every batch, then
_AGREE_EVERY = 20


class InterruptCheckpoint(pl.Callback):
    """Without it, Ctrl-C can fall into the middle of an optimizer step and leave weights of two different steps.

    Args:
        directory: where `last.ckpt` goes; None is the first ModelCheckpoint's directory, else ``checkpoints/`` in the
            logger's directory.
    """

    keeps_books = True
    ends_the_fit = True

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self.saved_to: str | None = None
        self._asked = False
        self._previous: Any = None
        self._last_step = 0

    def __repr__(self) -> str:
        return f"InterruptCheckpoint(directory={self.directory!r})"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over SIGINT; behind the others, whose end of the batch belongs into what is saved."""
        go_behind_the_others(trainer, self)
        self._asked, self.saved_to = False, None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers where the run stands."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leaves, if asked to, after a whole optimizer step (not between accumulated batches)."""
        stepped = trainer.global_step != self._last_step
        self._last_step = trainer.global_step
        asked = self._asked
        if trainer.world_size > 1:
            if trainer.global_step % _AGREE_EVERY or not stepped:
                return
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked and stepped:
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                path = checkpoint_directory(trainer, self.directory) / "last.ckpt"
                trainer.save_checkpoint(path)
                self.saved_to = str(path)
            raise KeyboardInterrupt

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives SIGINT back."""
        self._give_back()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Gives SIGINT back."""
        self._give_back()

    def _on_signal(self, signum: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nStopping after this batch and saving. Press Ctrl-C again to stop at once.", flush=True)

    def _give_back(self) -> None:
        if self._previous is not None and threading.current_thread() is threading.main_thread():
            # Lightning ignores SIGINT while it shuts down: do not undo that
            if signal.getsignal(signal.SIGINT) == self._on_signal:
                signal.signal(signal.SIGINT, self._previous)
            self._previous = None
