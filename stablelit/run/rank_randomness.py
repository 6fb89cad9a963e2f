"""Random numbers of its own for every rank.

`seed_everything` gives all ranks one seed, which splits and first weights need. In training they would then draw the
same numbers for different samples: of a global batch of W ranks only a W-th of the noise, times and augmentations would
be independent, and the gradient noisier than the batch size says.
"""

from __future__ import annotations

import random

import lightning.pytorch as pl
import numpy as np
import torch

from stablelit.functional.permutation import mix


class RankRandomness(pl.Callback):
    """Seeds every rank but the first anew when training begins; what was drawn before is the same on all.

    It stands before the other callbacks, so that RandomStateCheckpoint puts the states of a resumed run back after it.
    One process alone draws what it always drew. Workers of data loaders have seeds of their rank by Lightning's
    `seed_everything(workers=True)`.
    """

    keeps_books = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves rank zero as it is."""
        if trainer.global_rank == 0:
            return
        seed = mix(torch.initial_seed(), trainer.global_rank)
        torch.manual_seed(seed % 2**63)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is the subject
