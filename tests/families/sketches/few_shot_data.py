"""Small sketches for few-shot learning: a class is a pattern, its members are that pattern with other noise."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from stablelit.data import EpisodicSampler, ShuffleDataLoader

SIZE = 16


class Patterns(Dataset):
    """`signal` of 0 is noise alone, whatever the label says."""

    def __init__(self, n_classes=12, per_class=8, signal=1.0, seed=0, first=0):
        generator = torch.Generator().manual_seed(seed)
        pattern = torch.randn(n_classes, 1, SIZE // 4, SIZE // 4, generator=generator)
        pattern = torch.nn.functional.interpolate(pattern, scale_factor=4)
        self.label = torch.arange(n_classes).repeat_interleave(per_class) + first
        noise = torch.randn(len(self.label), 1, SIZE, SIZE, generator=generator)
        self.image = signal * pattern.repeat_interleave(per_class, 0) + 2.5 * noise

    def __len__(self):
        return len(self.label)

    def __getitem__(self, index):
        return {"image": self.image[index], "label": self.label[index], "id": index}


def loader(n_way, n_shot=1, n_query=3, n_episodes=12, fixed=False, seed=0, data=None):
    data = Patterns(seed=seed, first=100 * seed) if data is None else data
    sampler = EpisodicSampler(data.label.numpy(), n_way, n_shot, n_query, n_episodes, seed, fixed)
    return ShuffleDataLoader(data, batch_sampler=sampler)
