"""Numbered samples, every kind of loader of them, and fits that note what they are given."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from stablelit.callbacks import RandomStateCheckpoint, ShuffleCallback
from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from tests.contract.modules import make_trainer, save_at_class

N, BATCH = 26, 4
BATCHES = 7  # the last one is short


class Numbers(Dataset):
    """Sample i is i."""

    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Lists(Numbers):
    """Reads a batch at once."""

    def __getitem__(self, indices):
        return torch.tensor(indices, dtype=torch.float)[:, None]


class Chunked(Numbers):
    """Four chunks, of which `cache_size` are kept."""

    def __init__(self, cache_size, n=40):
        super().__init__(n)
        self.chunk_sizes = [n // 4] * 4
        self.cache_size = cache_size


class Module(pl.LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, [int(i) for i in batch[:, 0]]))
        return self.layer(batch).mean() * 1e-6 + 0.0 * torch.randn(())

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class OfAnEpoch(Sampler):
    """Somebody's sampler: a pure function of the epoch."""

    def __init__(self, n=N):
        self.n, self.epoch = n, 0

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(torch.randperm(self.n, generator=torch.Generator().manual_seed(self.epoch)).tolist())

    def set_epoch(self, epoch):
        self.epoch = epoch


class OwnBatches(Sampler):
    """Somebody's batch sampler: a pure function of the epoch, of which Lightning does not tell it."""

    def __init__(self):
        self.inner = OfAnEpoch()

    def __len__(self):
        return BATCHES

    def __iter__(self):
        return iter(BatchSampler(self.inner, BATCH, False))

    def set_epoch(self, epoch):
        self.inner.set_epoch(epoch)


LOADERS = {
    "RandomSampler": lambda **kw: DataLoader(Numbers(), BATCH, shuffle=True, **kw),
    "RandomSampler with a generator": lambda **kw: DataLoader(
        Numbers(), BATCH, shuffle=True, generator=torch.Generator().manual_seed(5), **kw
    ),
    "WeightedRandomSampler": lambda **kw: DataLoader(
        Numbers(), BATCH, sampler=WeightedRandomSampler([1.0] * N, N), **kw
    ),
    "SubsetRandomSampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=SubsetRandomSampler(range(N)), **kw),
    "ShuffleSampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=ShuffleSampler(range(N), seed=3), **kw),
    "DistributedSampler": lambda **kw: DataLoader(
        Numbers(), BATCH, sampler=DistributedSampler(range(N), num_replicas=1, rank=0), **kw
    ),
    "own sampler": lambda **kw: DataLoader(Numbers(), BATCH, sampler=OfAnEpoch(), **kw),
    "own batch sampler": lambda **kw: DataLoader(Numbers(), batch_sampler=OwnBatches(), **kw),
    "buckets": lambda **kw: DataLoader(
        Numbers(),
        batch_sampler=LengthBucketBatchSampler(ShuffleSampler(range(N)), [1 + i % 5 for i in range(N)], BATCH),
        **kw,
    ),
    "lists of samples": lambda **kw: DataLoader(
        Lists(), batch_size=None, sampler=BatchSampler(OfAnEpoch(), BATCH, False), **kw
    ),
    "ShuffleDataLoader": lambda **kw: ShuffleDataLoader(Numbers(), sampler=ShuffleSampler(range(N)), batch_size=BATCH),
}


def fit(directory, loader, callbacks, seed=0, ckpt_path=None, module=None, val=None, **kwargs):
    torch.manual_seed(seed)
    module = module or Module()
    saves = any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks)
    trainer = make_trainer(directory, callbacks, enable_checkpointing=saves, **kwargs)
    trainer.fit(module, loader, val, ckpt_path=ckpt_path)
    return module, trainer


def resumed(directory, make_loader, step, callback=ShuffleCallback, **kwargs):
    """What the whole run saw after the step, and what the run resumed there saw."""
    saver = save_at_class("lightning.pytorch")(step, directory / "a.ckpt")
    whole, _ = fit(directory, make_loader(), [callback(), RandomStateCheckpoint(), saver], **kwargs)
    loader = make_loader()
    rest, trainer = fit(
        directory, loader, [callback(), RandomStateCheckpoint()], 99, str(directory / "a.ckpt"), **kwargs
    )
    return whole.seen[step:], rest.seen, trainer


def checkpoint_inside_an_epoch(tmp_path, loader=None, step=BATCHES + 2):
    saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
    fit(tmp_path, loader or LOADERS["own sampler"](), [ShuffleCallback(), saver])
    return str(tmp_path / "a.ckpt")
