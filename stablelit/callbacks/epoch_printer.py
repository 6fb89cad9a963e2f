"""Prints one line an epoch where there is no terminal for a progress bar.

Runs    on_train_epoch_end
Reads   the metrics that are on the progress bar
Writes  standard output
Logs    nothing
Resumes nothing to resume
Limits  silent on a terminal, where the progress bar shows the same, unless `always`
"""

from __future__ import annotations

import sys
import time

import lightning.pytorch as pl


class EpochPrinter(pl.Callback):
    """``epoch 3/30  train/loss 84.2  train/kl 7.9  kl/weight 0.81  (1.2 s)``, for logs of batch systems.

    Args:
        always: print on a terminal too.
    """

    keeps_books = True

    def __init__(self, always: bool = False) -> None:
        self.always = always
        self._began = 0.0

    def __repr__(self) -> str:
        return f"EpochPrinter(always={self.always})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the watch, for a run resumed inside an epoch."""
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the watch."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the epoch's line."""
        # every rank asks: the first to ask for a synchronised metric waits for the others
        metrics = trainer.progress_bar_metrics
        if not trainer.is_global_zero or (sys.stdout.isatty() and not self.always):
            return
        last = f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""
        shown = {k: v for k, v in metrics.items() if k != "v_num" and not k.endswith("_step")}
        values = "  ".join(f"{name} {float(value):.4g}" for name, value in shown.items())
        seconds = time.monotonic() - self._began
        print(f"epoch {trainer.current_epoch + 1}{last}  {values}  ({seconds:.1f} s)", flush=True)
