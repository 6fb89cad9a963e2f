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

DATA = TensorDataset(torch.arange(23))


def _loader(**kwargs):
    return ShuffleDataLoader(DATA, sampler=ShuffleSampler(DATA, seed=4), **{"batch_size": 4, **kwargs})


def _ordered(**kwargs):
    return ShuffleSampler(DATA, seed=4, **kwargs)


LENGTHS = [1 + i * i % 11 for i in range(23)]
BATCH_SAMPLERS = {
    "torch": lambda **kwargs: BatchSampler(_ordered(**kwargs), 4, drop_last=False),
    "fixed": lambda **kwargs: LengthBucketBatchSampler(_ordered(**kwargs), LENGTHS, batch_size=4, pool_batches=2),
    "budget": lambda **kwargs: LengthBucketBatchSampler(_ordered(**kwargs), LENGTHS, max_tokens=33, pool_batches=2),
}


def _run(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [batch[0].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(6))
def test_it_continues_at_the_batch_after_the_last_one_handed_out(stop, workers):
    whole = _run(_loader(), 3)
    first = _loader(num_workers=workers)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    second = _loader(num_workers=workers)
    second.load_state_dict(first.state_dict())
    # Lightning makes the iterator first and calls set_epoch afterwards (#21938)
    iterator = iter(second)
    second.sampler.set_epoch(3)
    rest = [batch[0].tolist() for batch in iterator]
    assert seen + rest == whole
    assert _run(second, 4) == _run(_loader(), 4)


def test_a_state_from_the_end_of_an_epoch_begins_the_next_one_at_its_beginning():
    first, second = _loader(), _loader()
    _run(first, 0)
    second.load_state_dict(first.state_dict())
    assert _run(second, 1) == _run(first, 1)


def test_an_epoch_that_was_cut_short_by_a_limit_is_not_skipped_into():
    first, second = _loader(), _loader()
    batches = iter(first)
    next(batches)
    next(batches)
    second.load_state_dict(first.state_dict())
    assert _run(second, 1) == _run(_loader(), 1)


def test_the_length_is_constant():
    loader = _loader()
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
    list(_loader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", BATCH_SAMPLERS)
@pytest.mark.parametrize("stop", range(6))
def test_batch_samplers_continue_too(kind, stop):
    def loader(**kwargs):
        return ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS[kind](), **kwargs)

    whole = _run(loader(), 3)
    first = loader(num_workers=1)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + _run(second, 3) == whole
    assert _run(second, 4) == _run(loader(), 4)


def test_persistent_workers_continue_and_draw_the_next_epochs_order():
    whole = [_run(_loader(), epoch) for epoch in (3, 4, 5)]
    first = _loader(num_workers=2, persistent_workers=True)
    first.sampler.set_epoch(3)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(3)]
    second = _loader(num_workers=2, persistent_workers=True)
    second.load_state_dict(first.state_dict())
    assert seen + _run(second, 3) == whole[0]
    assert [_run(second, epoch) for epoch in (4, 5)] == whole[1:]
    # an epoch left in its middle does not leak into the next one
    second.sampler.set_epoch(3)
    next(iter(second))
    assert _run(second, 4) == whole[1]


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


@pytest.mark.parametrize(
    ("ranks", "batch_size", "says"),
    [
        (1, 4, "global batches of 8 samples, now they have 4.*Set batch_size=8 on 1 ranks"),
        (2, 8, "now they have 16.*Set batch_size=4 on 2 ranks"),
        (3, 3, "now they have 9.*3 ranks do not divide it: use 1, 2, 4, 8 ranks"),
    ],
)
def test_another_global_batch_inside_an_epoch_is_refused_or_begins_the_epoch_anew(ranks, batch_size, says):
    before = _loader(batch_size=8)
    next(batches := iter(before))
    state = before.state_dict()

    def loader(strict=True):
        sampler = ShuffleSampler(DATA, seed=4, num_replicas=ranks, rank=0, strict=strict)
        return ShuffleDataLoader(DATA, sampler=sampler, batch_size=batch_size)

    with pytest.raises(ConfigurationError, match=says):
        loader().load_state_dict(state)
    lenient = loader(strict=False)
    with pytest.warns(UserWarning, match="begins anew"):
        lenient.load_state_dict(state)
    assert len(list(lenient)) == len(lenient)
    list(batches)
    loader().load_state_dict(before.state_dict())  # the epoch is over: the next may be cut in any way


def test_another_order_begins_the_epoch_anew_where_that_is_allowed():
    before = _loader()
    next(iter(before))
    state = before.state_dict()
    sampler = ShuffleSampler(DATA, mode="sequential", strict=False)
    loader = ShuffleDataLoader(DATA, sampler=sampler, batch_size=4)
    with pytest.warns(UserWarning, match="mode='full', the sampler now has 'sequential'"):
        loader.load_state_dict(state)
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lengths": [1] * 23}, "had 23 lengths of 1 to 10 tokens, now there are 23 lengths of 1 to 1 tokens"),
        (
            {"lengths": LENGTHS[1:] + LENGTHS[:1]},
            "now there are as many of other sizes or in another order",
        ),
        ({"pool_batches": 3}, "pool_batches=2, now it has 3"),
        ({"max_tokens": 50}, "max_tokens=33, now it has 50"),
    ],
)
def test_other_buckets_inside_an_epoch_are_refused(change, says):
    before = ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS["budget"]())
    next(iter(before))
    settings = {"lengths": LENGTHS, "max_tokens": 33, "pool_batches": 2, **change}
    after = ShuffleDataLoader(DATA, batch_sampler=LengthBucketBatchSampler(_ordered(), **settings))
    with pytest.raises(ConfigurationError, match=says):
        after.load_state_dict(before.state_dict())


@pytest.mark.parametrize("before", [True, False])
def test_buckets_do_not_continue_what_had_none_nor_the_other_way_round(before):
    loaders = [ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS["fixed"]()), _loader()]
    first, second = loaders if before else loaders[::-1]
    next(iter(first))
    with pytest.raises(ConfigurationError, match="length buckets, now there are (none|some)"):
        second.load_state_dict(first.state_dict())


def test_a_budget_continues_on_the_same_number_of_ranks_only():
    before = ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS["budget"]())
    next(iter(before))
    after = ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS["budget"](num_replicas=2, rank=0))
    with pytest.raises(ConfigurationError, match="ranks=1, now it has 2"):
        after.load_state_dict(before.state_dict())


def test_the_state_is_plain_and_small_and_the_same_on_every_rank():
    parts = [
        ShuffleDataLoader(DATA, sampler=_ordered(num_replicas=2, rank=rank), batch_size=2).state_dict()
        for rank in range(2)
    ]
    assert parts[0] == parts[1]
    assert all(isinstance(v, int | str | dict) for v in parts[0].values())


def test_a_batch_larger_than_the_data_is_one_batch_or_refused_where_it_would_be_dropped():
    assert [len(batch[0]) for batch in _loader(batch_size=50)] == [23]
    with pytest.raises(ConfigurationError, match="no batch comes out of 23 samples.*batch_size=50 with drop_last=True"):
        _loader(batch_size=50, drop_last=True)


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
        for sampler in (_ordered(), None):
            with pytest.raises(ConfigurationError, match=f"ShuffleDataLoader: {kind} has no length.*map-style"):
                ShuffleDataLoader(data, sampler=sampler, batch_size=4)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "has no sampler, epoch, batches; it has nothing"),
        ({"epoch": 0, "batches": 1}, "has no sampler; it has epoch, batches"),
        ({"sampler": {"seed": 4}, "epoch": 0, "batches": 1}, "ShuffleSampler.load_state_dict.*has no epoch, n"),
        ([], r"\(a list\)"),
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(state, says):
    loader = _loader()
    with pytest.raises(ConfigurationError, match=says):
        loader.load_state_dict(state)
    assert _run(loader, 0) == _run(_loader(), 0)


@pytest.mark.parametrize("size", [0, True, 2.5, "4", np.int64(-1)])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(ConfigurationError, match="ShuffleDataLoader: batch_size="):
        _loader(batch_size=size)


def test_numpys_integers_are_batch_sizes_too():
    assert _run(_loader(batch_size=np.int64(5)), 2) == _run(_loader(batch_size=5), 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "sampler is a NoneType"),
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


def test_a_worker_that_dies_is_reported_with_the_place_and_what_to_do():
    data = Killed(torch.arange(23))
    loader = ShuffleDataLoader(data, sampler=ShuffleSampler(data, mode="sequential"), batch_size=4, num_workers=1)
    with pytest.raises(RuntimeError, match=r"a worker process died after batch \d of epoch 0.*num_workers=0"):
        list(loader)
    assert loader.state_dict()["batches"] <= 1


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
    loader = _loader()
    batches = iter(loader)
    next(batches)
    next(batches)
    assert loader.batches_delivered == 2
    assert loader.wait_seconds > 0


def test_workers_draw_other_random_numbers_at_another_epoch_rank_and_position():
    def seed(epoch=0, rank=0, skip=0):
        loader = ShuffleDataLoader(DATA, sampler=_ordered(num_replicas=2, rank=rank), batch_size=2)
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
    first, second = _loader(), _loader()
    batches = iter(first)
    for _ in range(3):
        next(batches)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()


def test_a_look_at_the_data_while_an_epoch_is_running_neither_counts_nor_takes_the_place():
    whole = _run(_loader(), 0)
    first, second = _loader(), _loader()
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(3)]
    assert next(iter(first))[0].tolist() == whole[0]
    assert first.batches_delivered == 3
    second.load_state_dict(first.state_dict())
    training = iter(second)
    assert next(iter(second))[0].tolist() == whole[0]
    assert seen + [batch[0].tolist() for batch in training] == whole


def test_an_epoch_that_was_left_early_gives_its_count_to_the_next():
    loader = _loader()
    for _ in loader:
        break
    assert len(list(loader)) == 6
    assert loader.batches_delivered == 6
