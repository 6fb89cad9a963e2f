"""A small contrastive module under both names of Lightning, with its data and its Trainer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stablelit.functional.contrastive import nt_xent
from tests.contract.modules import NAMES, framework, make_trainer

N, WIDTH, DIM = 16, 24, 16
SOON = {"every_n_steps": 10, "warmup_steps": 20, "patience_steps": 10}
quiet = pytest.mark.filterwarnings("ignore")


def mlp(*widths, norm=False):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if norm else []), nn.ReLU()]
    return layers


def make_contrast(name=NAMES[0], norm=False, lr=1e-3, returns=True, seed=0, calls="one", optimizer=torch.optim.Adam):
    """Vectors whose views are themselves and noise; `returns` says whether training_step hands out its embeddings."""

    class Contrast(framework(name).LightningModule):
        noise, factor, shuffles = 0.3, 1.0, False
        temperature = 0.5

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(*mlp(12, WIDTH, WIDTH, WIDTH, norm=norm))
            self.head = nn.ModuleDict(
                {"projector": nn.Sequential(*mlp(WIDTH, WIDTH, norm=norm), nn.Linear(WIDTH, DIM))}
            )

        def views(self, x):
            return x + self.noise * torch.randn_like(x), x + self.noise * torch.randn_like(x)

        def project(self, h):
            projector = self.head["projector"]
            if calls == "one":
                return projector(h)
            if calls == "two":
                return torch.cat([projector(part) for part in h.chunk(2)])
            return torch.cat([checkpoint(projector, part, use_reentrant=True) for part in h.split(5)])

        def training_step(self, batch, batch_idx):
            x0, x1 = self.views(batch[0])
            if self.shuffles:
                x1 = x1[torch.randperm(len(x1))]
            h = self.encoder(torch.cat([x0, x1]))
            z0, z1 = self.project(h).chunk(2)
            loss = self.factor * nt_xent(z0, z1, self.temperature, gather=False)
            self.log("contrast", loss)
            return {"loss": loss, "z0": z0, "z1": z1, "h": h} if returns else loss

        def configure_optimizers(self):
            return optimizer(self.parameters(), lr)

    torch.manual_seed(seed)
    return Contrast()


def loader(steps, n=N, scale=1.0, samples=None, **kwargs):
    generator = torch.Generator().manual_seed(1)
    data = scale * torch.randn(steps * n if samples is None else samples, 12, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=n, **kwargs)


def fit(directory, module, monitor, steps=150, name=NAMES[0], data=None, callbacks=(), **kwargs):
    kwargs.setdefault("max_epochs", 1)
    trainer = make_trainer(directory, [monitor, *callbacks], name, log_every_n_steps=1, **kwargs)
    trainer.fit(module, loader(steps) if data is None else data)
    return trainer


def logged(trainer, key):
    return [line[key] for _, line in trainer.logger.lines if key in line]


def blank(module):
    module.noise = 0.0
    return module, loader(150, scale=0.0)


def raw(module):
    module.noise = 3.0
    nn.init.constant_(module.encoder[-2].bias, -1e4)
    return module, loader(150, scale=100.0)


def dead_encoder(module):
    nn.init.constant_(module.encoder[-2].bias, -100.0)
    return module, loader(150)


def dead_projector(module):
    module.head["projector"].append(nn.ReLU())
    nn.init.constant_(module.head["projector"][-2].bias, -100.0)
    return module, loader(150)


def shuffled(module):
    module.shuffles = True
    return module, loader(150)


def no_noise(module):
    module.noise, module.temperature = 0.0, 0.1
    return module, loader(150)


def twice(module):
    module.factor = 3.0
    return module, loader(150)
