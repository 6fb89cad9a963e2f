"""Small modules and data that several tests of the family share."""

from __future__ import annotations

import lightning.pytorch as pl
import torch

from stablelit.families.sketches import BYOL, SimCLR, SketchDataModule

ENCODER = {"width": 8, "n_blocks": 3}


def trainer(**arguments) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(
        **{**quiet, "max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False, **arguments}
    )


def data(**more) -> SketchDataModule:
    return SketchDataModule(**{"n_classes": 15, "per_class": 6, "size": 16, "batch_size": 18, **more})


def simclr(**more) -> SimCLR:
    settings = {"encoder": ENCODER, "image_size": 16, "projection_hidden": 16, "projection_dim": 8}
    return SimCLR(**{**settings, "few_shot": [[3, 1]], **more})


def byol(**more) -> BYOL:
    settings = {"encoder": ENCODER, "image_size": 16, "projection_hidden": 16, "projection_dim": 8}
    return BYOL(**{**settings, "prediction_hidden": 16, "few_shot": [[3, 1]], **more})


class Noise(torch.nn.Module):
    """Adds noise: the smallest augmentation."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 0.3 * torch.rand_like(image)
