from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from stablelit.data.shared_level import SharedLevel
from stablelit.errors import ConfigurationError


class Levels(Dataset):
    """Samples that say at which level they were made: the shared one, and a plain attribute beside it."""

    def __init__(self):
        self.level, self.plain = SharedLevel(0.25), 0.25

    def set_difficulty(self, difficulty):
        self.level.set(difficulty)
        self.plain = difficulty

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([self.level.value, self.plain], dtype=torch.float64)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_live_on_see_a_level_that_was_set_since_they_began(method):
    data = Levels()
    loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True, multiprocessing_context=method)
    first = torch.cat(list(loader))
    third = 1 / 3  # no float32
    data.set_difficulty(third)
    second = torch.cat(list(loader))
    assert first.unique().tolist() == [0.25]
    assert second[:, 0].unique().tolist() == [third]
    assert second[:, 1].unique().tolist() == [0.25], "what it is there for: an attribute stays as it was"


def test_a_copy_is_a_level_of_its_own():
    level = SharedLevel(0.5)
    copies = [copy.deepcopy(level), pickle.loads(pickle.dumps(level))]
    level.set(0.75)
    assert [float(other) for other in copies] == [0.5, 0.5]
    assert all(other._shared.is_shared() for other in copies)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "1", True])
def test_a_level_outside_its_range_is_refused(value):
    with pytest.raises(ConfigurationError, match="SharedLevel: value="):
        SharedLevel(value)
    level = SharedLevel()
    with pytest.raises(ConfigurationError, match="SharedLevel: value="):
        level.set(value)
    assert repr(level) == "SharedLevel(1)"
