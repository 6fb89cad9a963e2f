from __future__ import annotations

import pytest

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError
from tests.data.numbered_loaders import BATCH_SAMPLERS, DATA, LENGTHS, loader_of, ordered, run


@pytest.mark.parametrize(
    ("ranks", "batch_size", "says"),
    [
        (1, 4, "global batches of 8 samples, now they have 4.*Set batch_size=8 on 1 ranks"),
        (2, 8, "now they have 16.*Set batch_size=4 on 2 ranks"),
        (3, 3, "now they have 9.*3 ranks do not divide it: use 1, 2, 4, 8 ranks"),
    ],
)
def test_another_global_batch_inside_an_epoch_is_refused_or_begins_the_epoch_anew(ranks, batch_size, says):
    before = loader_of(batch_size=8)
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
    before = loader_of()
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
    after = ShuffleDataLoader(DATA, batch_sampler=LengthBucketBatchSampler(ordered(), **settings))
    with pytest.raises(ConfigurationError, match=says):
        after.load_state_dict(before.state_dict())


@pytest.mark.parametrize("before", [True, False])
def test_buckets_do_not_continue_what_had_none_nor_the_other_way_round(before):
    loaders = [ShuffleDataLoader(DATA, batch_sampler=BATCH_SAMPLERS["fixed"]()), loader_of()]
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
        ShuffleDataLoader(DATA, sampler=ordered(num_replicas=2, rank=rank), batch_size=2).state_dict()
        for rank in range(2)
    ]
    assert parts[0] == parts[1]
    assert all(isinstance(v, int | str | dict) for v in parts[0].values())


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "has no sampler, epoch, batches; it has nothing"),
        ({"epoch": 0, "batches": 1}, "has no sampler; it has epoch, batches"),
        ({"sampler": {"seed": 4}, "epoch": 0, "batches": 1}, "ShuffleSampler.load_state_dict.*has no epoch, n"),
        ([], r"\(a list\)"),
    ],
)
@pytest.mark.slow
def test_a_state_that_is_none_is_refused_and_changes_nothing(state, says):
    loader = loader_of()
    with pytest.raises(ConfigurationError, match=says):
        loader.load_state_dict(state)
    assert run(loader, 0) == run(loader_of(), 0)
