"""Random numbers of its own for every rank, and for a test those of its seed alone.

`seed_everything` gives all ranks one seed, which splits and first weights need. In training they would then draw the
same numbers for different samples: of a global batch of W ranks only a W-th of the noise, times and augmentations would
be independent, and the gradient noisier than the batch size says.

A test that draws at random would draw on from where training stopped: a run that is only tested after a resume, or a
checkpoint that is evaluated again, would come to other numbers than the run that nobody interrupted.
"""

from __future__ import annotations

import random

import lightning.pytorch as pl
import numpy as np
import torch

from stablelit.functional.permutation import mix


class RankRandomness(pl.Callback):
    """Seeds every rank but the first anew when training begins, and every rank before a test.

    It stands before the other callbacks, so that RandomStateCheckpoint puts the states of a resumed run back after it.
    One process alone draws in training what it always drew. Workers of data loaders have seeds of their rank by
    Lightning's `seed_everything(workers=True)`.
    """

    keeps_books = True

    def __init__(self) -> None:
        # what seed_everything has set: in training it is another on every rank, and after a resume the checkpoint's
        self._seed = torch.initial_seed()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Seeds a test before its loaders are asked: what their workers draw begins there."""
        if stage == "test":
            _seed_all(self._seed if trainer.global_rank == 0 else mix(self._seed, trainer.global_rank))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves rank zero as it is."""
        if trainer.global_rank != 0:
            _seed_all(mix(torch.initial_seed(), trainer.global_rank))


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed % 2**63)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is the subject
