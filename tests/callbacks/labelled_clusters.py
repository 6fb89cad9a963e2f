"""A module that returns features with labels, and clusters for it to tell apart."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

D = 6


def clusters(classes, each=12, seed=0, spread=0.6):
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor(classes).repeat(each)
    centres = 2 * torch.randn(50, D, generator=torch.Generator().manual_seed(77))
    return centres[label.clamp(min=0)] + spread * torch.randn(len(label), D, generator=generator), label


def loader(rows, batch_size=8, **kwargs):
    return DataLoader(TensorDataset(*rows), batch_size=batch_size, **kwargs)


class Features(LightningModule):
    """Its features are what comes in; `views` copies of each; its one weight learns something else."""

    def __init__(self, views=1, keys=("h", "label")):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))
        self.views, self.keys = views, keys

    def outputs(self, batch, views):
        x, label = batch
        return dict(zip(self.keys, (torch.cat([x + 0.01 * v for v in range(views)]) * self.weight, label), strict=True))

    def training_step(self, batch, batch_idx):
        outputs = self.outputs(batch, self.views)
        return {"loss": 1e-3 * (self.weight - 1.5).square().sum(), **outputs}

    def validation_step(self, batch, batch_idx):
        return self.outputs(batch, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
