"""Ctrl-C or SIGTERM ends a run at a batch boundary and keeps what was trained.

Runs    on_fit_start (takes the signals, and goes behind the other callbacks), on_sanity_check_start and on_train_start
        (takes SIGTERM back from Lightning), on_train_batch_end (saves and leaves), on_train_epoch_start (leaves),
        on_fit_end, on_exception (gives them back)
Reads   SIGINT, SIGTERM
Writes  last.ckpt in `directory`, else where ModelCheckpoint writes
Logs    nothing
Resumes the checkpoint lies between two optimizer steps, so a resume is exact
Limits  main thread only; a validation comes to its end first: the run ends behind it, where the epoch's end was saved
        as last.ckpt, else at the first optimizer step after it (of a signal in an epoch's last step, what was trained
        is saved before the validation too); a second Ctrl-C ends it at once, without
        saving, a second SIGTERM changes nothing, since clusters send several
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from stablelit.callbacks._checkpoint_directory import checkpoint_directory
from stablelit.callbacks._last_in_line import go_behind_the_others
from stablelit.errors import bad_argument

TERMINATED = 143
"""The exit code of a process that SIGTERM ended: 128 + 15."""

# ranks agree on an interrupt together, which costs them a wait for each other: about once a second, then, and at the
# latest after so many steps
_AGREE_EVERY_SECONDS, _AGREE_EVERY = 1.0, 20
_SIGNALS = {signal.SIGINT: 1, signal.SIGTERM: 2}


class InterruptCheckpoint(pl.Callback):
    """Without it, a signal can fall into the middle of an optimizer step or of an epoch, and what came after is lost.

    Of SIGTERM Lightning saves nothing: it ends the fit after the batch, an accumulated step's half included, or in the
    middle of a validation. Here the fit ends as it does on Ctrl-C, after a whole step and saved, on all ranks together,
    and leaves with ``SystemExit(143)``. SLURM's requeue signal (SIGUSR1) is left to Lightning.

    Args:
        directory: where `last.ckpt` goes; None is the first ModelCheckpoint's directory, else ``checkpoints/`` in the
            logger's directory.

    Raises:
        ConfigurationError: `directory` is no text.
    """

    keeps_books = True
    ends_the_fit = True

    def __init__(self, directory: str | None = None) -> None:
        if directory is not None and not isinstance(directory, str | os.PathLike):
            raise bad_argument("InterruptCheckpoint", "directory", directory, "text, or None")
        self.directory = directory
        self.saved_to: str | None = None
        self._previous: dict[int, Any] = {}
        self._listening = False
        self._has_waited = False
        self._before_epoch_end: tuple[int, int, int] | None = None
        self._begin(0)

    def __repr__(self) -> str:
        return f"InterruptCheckpoint(directory={self.directory!r})"

    @property
    def asked_to_end(self) -> int | None:
        """The signal that asked this process to end the fit, if one did."""
        return next((number for number, code in _SIGNALS.items() if code == self._asked), None)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the signals; behind the others, whose end of the batch belongs into what is saved."""
        go_behind_the_others(trainer, self)
        self._begin(trainer.global_step)
        self.saved_to = None
        if threading.current_thread() is threading.main_thread():
            self._listening = True
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes SIGTERM back: Lightning has put a handler of its own before this one meanwhile."""
        self._take_sigterm_back()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Leaves the sanity check, if asked to: nothing was trained yet."""
        if trainer.sanity_checking and self._asked and trainer.world_size == 1:
            self._leave(trainer, self._asked)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers where the run stands; leaves, if asked to before there was anything to save."""
        self._take_sigterm_back()
        self._last_step = self._agree_at = trainer.global_step
        if decided := self._decide(trainer):
            self._leave(trainer, decided)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leaves, if asked to, after a whole optimizer step (not between accumulated batches)."""
        stepped = trainer.global_step != self._last_step
        self._last_step = trainer.global_step
        if not stepped:
            return
        decided = self._decide(trainer)
        if not decided and not trainer.is_last_batch:
            return
        last = checkpoint_directory(trainer, self.directory) / "last.ckpt"
        if decided:
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                trainer.save_checkpoint(last)
                self.saved_to = str(last)
            # of a checkpoint made between a step and the validation after it Lightning skips the validation: what was
            # saved is for a cluster that does not wait, and the end comes behind the validation, or a step later
            if self._has_waited or not _validation_follows(trainer, batch_idx):
                self._leave(trainer, decided)
            self._has_waited = True
        if trainer.is_last_batch:
            self._before_epoch_end = _identity(last)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves between two epochs, if asked to and somebody has saved the end of the one before."""
        if trainer.global_step == 0 or not (decided := self._decide(trainer)):
            return
        last = checkpoint_directory(trainer, self.directory) / "last.ckpt"
        is_saved = _identity(last) not in (None, self._before_epoch_end)
        if trainer.strategy.broadcast(is_saved):
            self.saved_to = str(last)
            self._leave(trainer, decided)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the signals back."""
        self._give_back(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back(trainer)

    def _begin(self, step: int) -> None:
        self._asked = self._decided = 0
        self._has_waited, self._before_epoch_end = False, None
        self._last_step = self._agree_at = step
        self._agreed_at, self._agreed_seconds = step, time.monotonic()

    def _decide(self, trainer: Any) -> int:
        """What all ranks have decided on: 0 to go on, else the code of the signal that one of them got."""
        if trainer.world_size == 1:
            return self._asked
        if not self._decided and trainer.global_step >= self._agree_at:
            now = time.monotonic()
            mine = torch.tensor([float(self._asked), now - self._agreed_seconds], device=trainer.strategy.root_device)
            asked, seconds = trainer.strategy.reduce(mine, reduce_op="max").tolist()
            steps = max(1, trainer.global_step - self._agreed_at)
            every = min(_AGREE_EVERY, max(1, int(_AGREE_EVERY_SECONDS * steps / max(seconds, 1e-3))))
            self._agreed_at, self._agree_at = trainer.global_step, trainer.global_step + every
            self._agreed_seconds = now
            self._decided = int(asked)
        return self._decided

    def _leave(self, trainer: Any, decided: int) -> None:
        if decided != _SIGNALS[signal.SIGTERM]:
            raise KeyboardInterrupt
        # Lightning kills its main process as soon as one of the scripts that it started ends with another code than 0,
        # and rank zero may still be writing
        launched = type(trainer.strategy.launcher).__name__ == "_SubprocessScriptLauncher"
        raise SystemExit(0 if launched and not trainer.is_global_zero else TERMINATED)

    def _on_signal(self, signum: int, frame: Any) -> None:
        if not self._listening:
            self._pass_on(signum, frame)
        elif signum == signal.SIGTERM:
            if not self._asked:
                print("\nSIGTERM: stopping after this step and saving.", flush=True)
            self._asked = max(self._asked, _SIGNALS[signal.SIGTERM])
        elif self._asked:
            raise KeyboardInterrupt
        else:
            self._asked = _SIGNALS[signal.SIGINT]
            print("\nStopping after this batch and saving. Press Ctrl-C again to stop at once.", flush=True)

    def _pass_on(self, signum: int, frame: Any) -> None:
        """After the fit: Lightning may have put this handler back, and it is nobody's any more."""
        previous = self._previous.get(signum, signal.SIG_DFL)
        if callable(previous):
            previous(signum, frame)
        elif previous != signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _take_sigterm_back(self) -> None:
        if self._listening:
            signal.signal(signal.SIGTERM, self._on_signal)

    def _give_back(self, trainer: Any) -> None:
        if not self._listening:
            return
        self._listening = False
        # Lightning's teardown puts back what it found, which was this handler
        found = getattr(getattr(trainer, "_signal_connector", None), "_original_handlers", {})
        for number, previous in self._previous.items():
            # Lightning ignores SIGINT while it shuts down: do not undo that
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, previous if previous is not None else signal.SIG_DFL)
            if found.get(number) == self._on_signal:
                found[number] = previous


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _validation_follows(trainer: Any, batch_idx: int) -> bool:
    if trainer.is_last_batch:
        return True
    every = trainer.val_check_batch
    return bool(trainer.enable_validation and every != float("inf") and every and (batch_idx + 1) % every == 0)
