"""Prints one line an epoch where there is no terminal for a progress bar.

Runs    on_train_epoch_end (takes the time); on_save_checkpoint (keeps the best value); the next on_train_epoch_start,
        on_train_end, on_exception (prints)
Reads   the metrics that are on the progress bar, or those that `columns` names; the first optimizer's learning rate
Writes  standard output
Logs    nothing
Resumes the best value so far is in the checkpoint
Limits  silent on a terminal, where the progress bar shows the same, unless `always`
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl

from stablelit.errors import bad_argument
from stablelit.lost_reports import say

_OWNER = "EpochPrinter"


class EpochPrinter(pl.Callback):
    """``epoch 3/30  train/loss 84.2  train/kl 7.9  kl/weight 0.81  (1.2 s)``, for logs of batch systems.

    A line is printed when everything that an epoch's end logs is there, of whatever callback, and of the module.

    Args:
        always: print on a terminal too.
        columns: label to metric, or to two metrics that are shown as ``5/13``; in place of those on the progress bar.
            ``lr`` is the learning rate. One that is not logged, or not yet, is left out.
        best: the metric of which a new best value is marked ``NEW BEST``.
        mode: "min" or "max", which value of it is better.

    Raises:
        ConfigurationError: columns of another form, another mode.

    Example:
        >>> from stablelit import EpochPrinter
        >>> printer = EpochPrinter(columns={"loss": "train/loss", "lr": "lr"}, best="val/loss")
    """

    keeps_books = True

    def __init__(
        self,
        always: bool = False,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        best: str | None = None,
        mode: str = "min",
    ) -> None:
        self.always = always
        self.columns: dict[str, list[str]] | None = None
        if columns is not None:
            form = "a mapping of labels to the name of a metric, or of two"
            if not isinstance(columns, Mapping):
                raise bad_argument(_OWNER, "columns", columns, form)
            self.columns = {}
            for label, names in columns.items():
                listed = [names] if isinstance(names, str) else list(names)
                if len(listed) not in (1, 2) or not all(isinstance(name, str) for name in listed):
                    raise bad_argument(_OWNER, f"columns[{label!r}]", names, form)
                self.columns[str(label)] = listed
        if mode not in ("min", "max"):
            raise bad_argument(_OWNER, "mode", mode, "min, max")
        self.best, self.mode = best, mode
        self._began = 0.0
        self._pending: tuple[int, float] | None = None
        self._best_value: float | None = None

    def __repr__(self) -> str:
        return f"EpochPrinter(always={self.always})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the watch, for a run resumed inside an epoch; a new run has no best value yet."""
        self._began, self._pending = time.monotonic(), None
        if trainer.global_step == 0:
            self._best_value = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the epoch before, and starts the watch."""
        self._print(trainer)
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the watch."""
        self._pending = (trainer.current_epoch + 1, time.monotonic() - self._began)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Of an epoch that is over and not yet printed the best value is in the checkpoint that closes it."""
        if self._pending is not None:
            value = self._value(trainer)
            if self._is_better(value):
                checkpoint["callbacks"][self.state_key]["best"] = value

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the last epoch."""
        self._print(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Prints the last epoch that was finished."""
        self._print(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and of which metric."""
        return {"metric": self.best, "best": self._best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up, if it is the same metric's."""
        if state_dict["metric"] == self.best:
            self._best_value = state_dict["best"]

    def _print(self, trainer: pl.Trainer) -> None:
        if self._pending is None:
            return
        (epoch, seconds), self._pending = self._pending, None
        # every rank asks: the first to ask for a synchronised metric waits for the others
        shown = self._shown(trainer)
        marked = self._is_new_best(trainer)
        if not trainer.is_global_zero or (sys.stdout is not None and sys.stdout.isatty() and not self.always):
            return
        last = f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""
        values = "  ".join(f"{name} {value}" for name, value in shown.items())
        tail = "  NEW BEST" if marked else ""
        say(trainer, _OWNER, f"epoch {epoch}{last}  {values}  ({seconds:.1f} s){tail}")

    def _shown(self, trainer: pl.Trainer) -> dict[str, str]:
        if self.columns is None:
            metrics = trainer.progress_bar_metrics
            return {k: f"{float(v):.4g}" for k, v in metrics.items() if k != "v_num" and not k.endswith("_step")}
        values = dict(trainer.callback_metrics)
        if trainer.optimizers:
            values["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        return {
            label: "/".join(f"{float(values[name]):.4g}" for name in names)
            for label, names in self.columns.items()
            if all(name in values for name in names)
        }

    def _is_new_best(self, trainer: pl.Trainer) -> bool:
        value = self._value(trainer)
        better = self._is_better(value)
        if better:
            self._best_value = value
        return better

    def _value(self, trainer: pl.Trainer) -> float:
        return float(trainer.callback_metrics.get(self.best, math.nan)) if self.best else math.nan

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        before = self._best_value
        return before is None or (value < before if self.mode == "min" else value > before)
