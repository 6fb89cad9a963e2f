from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, Subset

from stablelit.callbacks._loader_advice import cores_per_rank, loader_hint


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.zeros(1)


class AtOnce(Rows):
    def __getitems__(self, indices):
        return [torch.zeros(1) for _ in indices]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(1)])


def trainer_of(*loaders, ranks=1):
    return SimpleNamespace(
        num_devices=ranks, fit_loop=SimpleNamespace(_combined_loader=SimpleNamespace(flattened=list(loaders)))
    )


@pytest.fixture
def cores(monkeypatch):
    def have(n):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(n)), raising=False)

    return have


def advice(workers=0, seconds=0.1, ranks=1, data=None):
    # a loader that is not iterated starts no workers
    return loader_hint(trainer_of(DataLoader(data or Rows(), 4, num_workers=workers), ranks=ranks), seconds)


@pytest.mark.parametrize(
    ("cores_there", "ranks", "proposed"),
    [(1, 1, None), (2, 1, 2), (3, 1, 3), (4, 1, 4), (64, 1, 4), (8, 4, 2), (8, 8, None), (2, 4, None)],
)
def test_no_more_workers_are_proposed_than_a_rank_has_cores(cores_there, ranks, proposed, cores):
    cores(cores_there)
    told = advice(ranks=ranks)
    assert ("num_workers" in told) == (proposed is not None)
    assert proposed is None or f"num_workers={proposed}," in told


@pytest.mark.parametrize(
    ("workers", "cores_there", "said"),
    [
        (2, 8, "num_workers=4 instead of 2"),
        (3, 4, "num_workers=4 instead of 3"),
        (4, 4, None),
        (6, 4, "num_workers=4: 6 workers share 4 cores"),
    ],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_are_added_up_to_the_cores_and_taken_away_above_them(workers, cores_there, said, cores):
    cores(cores_there)
    told = advice(workers)
    assert ("num_workers=" in told) == (said is not None)
    assert said is None or said in told


def test_where_a_batch_is_cheap_reading_it_at_once_comes_first_and_workers_not_at_all(cores):
    cores(8)
    cheap, dear = advice(seconds=0.9e-3), advice(seconds=1.1e-3)
    assert cheap.startswith("one vectorised read a batch")
    assert "num_workers" not in cheap
    assert dear.startswith("DataLoader(num_workers=4")
    assert "one vectorised read a batch" in dear


def test_where_workers_may_do_little_but_hand_over_none_are_to_be_compared(cores):
    """With workers the wait is not the time of reading: they may well be worth having."""
    cores(8)
    short, long = advice(2, seconds=4.9e-3), advice(2, seconds=5.1e-3)
    assert [hint.split(" ")[0] for hint in short.split("; ")] == ["one", "num_workers=0,", "num_workers=4", "a"]
    assert long.startswith("num_workers=4 instead of 2")
    assert "num_workers=0" not in long


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(AtOnce(), 4),
        DataLoader(Subset(AtOnce(), [0, 1]), 4),
        DataLoader(Stream(), 4),
        DataLoader(Rows(), batch_size=None, sampler=BatchSampler(SequentialSampler(Rows()), 4, False)),
    ],
)
@pytest.mark.parametrize("seconds", [1e-4, 1.0])
def test_what_reads_a_batch_at_once_is_not_told_to(loader, seconds):
    told = loader_hint(trainer_of(loader), seconds)
    assert told
    assert "vectorised" not in told


def test_a_subset_of_what_reads_samples_one_by_one_is_told_to(cores):
    cores(2)
    assert "vectorised" in advice(data=Subset(Rows(), [0, 1, 2]))


def test_what_two_loaders_have_in_common_is_said_once(cores):
    cores(4)
    told = loader_hint(trainer_of(DataLoader(Rows(), 4), DataLoader(Rows(), 2)), 0.1)
    assert told.count("num_workers=4") == told.count("vectorised") == 1


def test_the_cores_are_those_this_process_may_use(monkeypatch):
    assert 1 <= cores_per_rank(trainer_of()) <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores_per_rank(trainer_of(ranks=2)) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores_per_rank(trainer_of()) == 1
