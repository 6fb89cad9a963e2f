"""What ranks in forked or spawned processes have seen, taken home to the process that waited for them.

Under ddp_fork, ddp_spawn and ddp_notebook every rank is another process: Lightning brings back the weights and the
last metrics, and the waiting process's callbacks and loops are as they were before the fit. A doctor that was there
would say "healthy after 0 steps" of a run that it has judged, and a summary would count none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from stablelit.callbacks._last_in_line import go_behind_the_others
from stablelit.doctor import TrainingDoctor

_FILE = "rank_zero.pt"


@contextmanager
def taking_home(trainer: pl.Trainer) -> Iterator[None]:
    """After the block callbacks and loops stand where rank zero's stood when its fit ended, well or badly."""
    if not hasattr(trainer.strategy.launcher, "_start_method"):
        yield  # the fit is in this process
        return
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch:
        messenger = _Messenger(Path(scratch) / _FILE)
        callbacks.append(messenger)
        try:
            yield
        finally:
            callbacks.remove(messenger)
            if messenger.path.is_file():
                _take_up(trainer, torch.load(messenger.path, weights_only=True))


class _Messenger(pl.Callback):
    """Writes down, on rank zero, what its callbacks and loops have come to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        go_behind_the_others(trainer, self)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        if not trainer.is_global_zero:
            return
        states = {c.state_key: state for c in trainer.callbacks if (state := c.state_dict())}
        saved_to = [c.saved_to for c in trainer.callbacks if getattr(c, "saved_to", None)]
        home = {"callbacks": states, "saved_to": saved_to, "fit_loop": trainer.fit_loop.state_dict()}
        torch.save(home, self.path)


def _take_up(trainer: Any, home: dict[str, Any]) -> None:
    for callback in trainer.callbacks:
        state = home["callbacks"].get(callback.state_key)
        if state is not None:
            callback.load_state_dict(state)
        if isinstance(callback, TrainingDoctor):
            callback.keep_verdict()
        if home["saved_to"] and hasattr(callback, "saved_to"):
            callback.saved_to = home["saved_to"][0]
    trainer.fit_loop.load_state_dict(home["fit_loop"])
