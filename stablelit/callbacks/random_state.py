"""Keeps the random states in the checkpoint, so that a resumed run draws the numbers it would have drawn.

Runs    on_save_checkpoint (keeps), on_train_start (puts back)
Reads   the states of torch (CPU and the rank's GPU), numpy and Python
Writes  the same
Logs    nothing
Resumes exactly: from the end of an epoch and from inside one, on as many ranks as before
Limits  a plain DataLoader draws its order from the global state before the state can be put back: use
        ShuffleDataLoader; on another number of ranks the states are left as the seed made them, and that is said
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from stablelit.callbacks._ranks import gather_from_ranks

_KEY = "stablelit_random_state"


class RandomStateCheckpoint(pl.Callback):
    """Makes dropout, noise and augmentation after a resume equal to those of the run that was not interrupted.

    Example:
        >>> from stablelit import RandomStateCheckpoint
        >>> callback = RandomStateCheckpoint()
    """

    keeps_books = True

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return "RandomStateCheckpoint()"

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the states of every rank: each has its own."""
        checkpoint[_KEY] = gather_from_ranks(trainer, random_state(trainer.strategy.root_device))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers the states until training begins."""
        self._states = checkpoint.get(_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts this rank's states back, once."""
        states, self._states = self._states, None
        if states is None:
            return
        if len(states) != trainer.world_size:
            warnings.warn(
                f"RandomStateCheckpoint: the checkpoint has the random states of {len(states)} ranks and this run has "
                f"{trainer.world_size}; random draws will differ from those of an uninterrupted run.",
                stacklevel=2,
            )
            return
        restore_random_state(states[trainer.global_rank], trainer.strategy.root_device)


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """The states of Python, numpy and torch as plain data that `weights_only` loading takes."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global state is the subject
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss)],
        "numpy_cached": float(cached),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Puts the states of `random_state` back."""
    torch.set_rng_state(state["torch"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss = state["numpy"]
    words_32 = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((name, words_32, position, has_gauss, state["numpy_cached"]))  # noqa: NPY002
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
