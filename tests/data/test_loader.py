from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError
from tests.data.numbered_loaders import BATCH_SAMPLERS, DATA, loader_of, ordered, run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(6))
def test_it_continues_at_the_batch_after_the_last_one_handed_out(stop, workers):
    whole = run(loader_of(), 3)
    first = loader_of(num_workers=workers)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    second = loader_of(num_workers=workers)
    second.load_state_dict(first.state_dict())
    # Lightning makes the iterator first and calls set_epoch afterwards (#21938)
    iterator = iter(second)
    second.sampler.set_epoch(3)
    rest = [batch[0].tolist() for batch in iterator]
    assert seen + rest == whole
    assert run(second, 4) == run(loader_of(), 4)


def test_a_state_from_the_end_of_an_epoch_begins_the_next_one_at_its_beginning():
    first, second = loader_of(), loader_of()
    run(first, 0)
    second.load_state_dict(first.state_dict())
    assert run(second, 1) == run(first, 1)


def test_an_epoch_that_was_cut_short_by_a_limit_is_not_skipped_into():
    first, second = loader_of(), loader_of()
    batches = iter(first)
    next(batches)
    next(batches)
    second.load_state_dict(first.state_dict())
    assert run(second, 1) == run(loader_of(), 1)


def test_the_length_is_constant():
    loader = loader_of()
    loader.load_state_dict({"sampler": {}, "epoch": 0, "batches": 3})
    assert len(loader) == 6
    assert len(list(loader)) == 3
    assert len(loader) == 6


def test_other_samplers_are_refused_but_for_the_one_that_overfit_batches_puts_in():
    with pytest.raises(ConfigurationError, match="RandomSampler"):
        ShuffleDataLoader(DATA, sampler=RandomSampler(DATA))
    assert len(list(ShuffleDataLoader(DATA, sampler=SequentialSampler(DATA), batch_size=4))) == 6


def test_iterating_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(loader_of())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", BATCH_SAMPLERS)
@pytest.mark.parametrize("stop", range(6))
def test_batch_samplers_continue_too(kind, stop):
    def loader(**kwargs):
        return ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS[kind](), **kwargs)

    whole = run(loader(), 3)
    first = loader(num_workers=1)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + run(second, 3) == whole
    assert run(second, 4) == run(loader(), 4)


@pytest.mark.slow
def test_persistent_workers_continue_and_draw_the_next_epochs_order():
    whole = [run(loader_of(), epoch) for epoch in (3, 4, 5)]
    first = loader_of(num_workers=2, persistent_workers=True)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(3)]
    second = loader_of(num_workers=2, persistent_workers=True)
    second.load_state_dict(first.state_dict())
    assert seen + run(second, 3) == whole[0]
    assert [run(second, epoch) for epoch in (4, 5)] == whole[1:]
    # an epoch left in its middle does not leak into the next one
    second.sampler.set_epoch(3)
    next(iter(second))
    assert run(second, 4) == whole[1]


@pytest.mark.parametrize("kind", ["plain", "fixed"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1)])
def test_another_number_of_ranks_continues_where_the_global_batch_is_the_same(kind, before, after):
    data = TensorDataset(torch.arange(40))

    def loader(ranks, rank):
        sampler = ShuffleSampler(data, 4, 3, num_replicas=ranks, rank=rank)
        if kind == "plain":
            return ShuffleDataLoader(data, sampler=sampler, batch_size=8 // ranks)
        lengths = [1 + i * i % 11 for i in range(40)]
        batches = LengthBucketBatchSampler(sampler, lengths, batch_size=8 // ranks, pool_batches=2)
        return ShuffleDataLoader(data, batch_sampler=batches)

    whole = [set(batch[0].tolist()) for batch in loader(1, 0)]
    first = loader(before, 0)
    batches = iter(first)
    for _ in range(3):
        next(batches)
    resumed = [loader(after, rank) for rank in range(after)]
    for part in resumed:
        part.load_state_dict(first.state_dict())
    steps = zip(*resumed, strict=True)
    assert [{i for batch in step for i in batch[0].tolist()} for step in steps] == whole[3:]


def test_a_batch_larger_than_the_data_is_one_batch_or_refused_where_it_would_be_dropped():
    assert [len(batch[0]) for batch in loader_of(batch_size=50)] == [23]
    with pytest.raises(ConfigurationError, match="no batch comes out of 23 samples.*batch_size=50 with drop_last=True"):
        loader_of(batch_size=50, drop_last=True)


def test_data_and_sampler_must_be_of_one_size():
    with pytest.raises(ConfigurationError, match="orders 23 samples, the data set has 5"):
        ShuffleDataLoader(TensorDataset(torch.arange(5)), sampler=ShuffleSampler(DATA))


def test_an_iterable_data_set_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(23))

    class NoLength(Dataset):
        def __getitem__(self, index):
            return index

    for data in (Stream(), NoLength()):
        kind = type(data).__name__
        with pytest.raises(ConfigurationError, match=f"ShuffleSampler: {kind} has no length.*map-style"):
            ShuffleDataLoader(data, sampler=ShuffleSampler(data))
        # before torch's own message, and before one of the sampler
        for sampler in (ordered(), None):
            with pytest.raises(ConfigurationError, match=f"ShuffleDataLoader: {kind} has no length.*map-style"):
                ShuffleDataLoader(data, sampler=sampler, batch_size=4)


@pytest.mark.parametrize("size", [0, True, 2.5, "4", np.int64(-1)])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(ConfigurationError, match="ShuffleDataLoader: batch_size="):
        loader_of(batch_size=size)


def test_numpys_integers_are_batch_sizes_too():
    assert run(loader_of(batch_size=np.int64(5)), 2) == run(loader_of(batch_size=5), 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "sampler is a NoneType"),
        ({"shuffle": True}, "shuffle=True.*the sampler shuffles.*give sampler=ShuffleSampler"),
        ({"shuffle": True, "sampler": ordered()}, "shuffle=True.*Leave it out"),
        ({"batch_sampler": BatchSampler(RandomSampler(DATA), 4, False)}, "BatchSampler of a RandomSampler"),
        ({"batch_sampler": [[0, 1], [2, 3]]}, "batch_sampler is a list"),
    ],
)
def test_what_cannot_be_continued_is_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        ShuffleDataLoader(DATA, **arguments)


class Killed(TensorDataset):
    """A worker that reads sample 7 is killed, as by a system that is out of memory."""

    def __getitem__(self, index):
        if index == 7 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_worker_that_dies_is_reported_with_the_place_and_what_to_do():
    data = Killed(torch.arange(23))
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data, mode="sequential"), batch_size=4, num_workers=1)
    with pytest.raises(RuntimeError, match=r"a worker process died after batch \d of epoch 0.*num_workers=0"):
        list(loader)
    assert loader.state_dict()["batches"] <= 1


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "gone")])
def test_a_worker_that_dies_while_its_tensors_are_handed_over_is_reported_too(monkeypatch, error):
    def broken(self):
        raise error

    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_next_data", broken)
    with pytest.raises(RuntimeError, match="a worker process died after batch 0 of epoch 0.*num_workers=0"):
        next(iter(loader_of(num_workers=1)))


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError, FileNotFoundError])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.slow
def test_a_broken_connection_of_the_data_set_is_not_taken_for_a_dead_worker(error, workers):
    class Remote(TensorDataset):
        def __getitem__(self, index):
            raise error("the store of the data set is gone")

    data = Remote(torch.arange(23))
    with pytest.raises(error, match="the store of the data set is gone"):
        next(iter(ShuffleDataLoader(data, sampler=ShuffleSampler(data), num_workers=workers)))


@pytest.mark.slow
def test_an_error_of_the_data_set_comes_through_as_it_is():
    class Broken(TensorDataset):
        def __getitem__(self, index):
            raise RuntimeError("sample is broken")

    data = Broken(torch.arange(23))
    for workers in (0, 1):
        loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data), num_workers=workers)
        with pytest.raises(RuntimeError, match="^(Caught RuntimeError in DataLoader worker|sample is broken)"):
            next(iter(loader))


def test_the_waiting_time_and_the_batches_are_counted():
    loader = loader_of()
    batches = iter(loader)
    next(batches)
    next(batches)
    assert loader.batches_delivered == 2
    assert loader.wait_seconds > 0


def test_workers_draw_other_random_numbers_at_another_epoch_rank_and_position():
    def seed(epoch=0, rank=0, skip=0):
        loader = ShuffleDataLoader(DATA, sampler=ordered(num_replicas=2, rank=rank), batch_size=2)
        loader.load_state_dict({**loader.state_dict(), "epoch": epoch, "batches": skip})
        loader.sampler.set_epoch(epoch)
        next(iter(loader))
        return loader.generator.initial_seed()

    assert len({seed(), seed(epoch=1), seed(rank=1), seed(skip=1)}) == 4
    assert seed() == seed()


def test_a_plain_loader_takes_the_samplers_too():
    batches = list(DataLoader(DATA, batch_sampler=BATCH_SAMPLERS["fixed"]()))
    assert sorted(i for batch in batches for i in batch[0].tolist()) == list(range(23))


def test_a_state_taken_before_the_first_batch_after_a_resume_keeps_the_place():
    first, second = loader_of(), loader_of()
    batches = iter(first)
    for _ in range(3):
        next(batches)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()


def test_a_look_at_the_data_while_an_epoch_is_running_neither_counts_nor_takes_the_place():
    whole = run(loader_of(), 0)
    first, second = loader_of(), loader_of()
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(3)]
    assert next(iter(first))[0].tolist() == whole[0]
    assert first.batches_delivered == 3
    second.load_state_dict(first.state_dict())
    training = iter(second)
    assert next(iter(second))[0].tolist() == whole[0]
    assert seen + [batch[0].tolist() for batch in training] == whole


def test_an_epoch_that_was_left_early_gives_its_count_to_the_next():
    loader = loader_of()
    for _ in loader:
        break
    assert len(list(loader)) == 6
    assert loader.batches_delivered == 6
