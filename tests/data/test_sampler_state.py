from __future__ import annotations

import pytest

from stablelit.data import ShuffleSampler
from stablelit.errors import ConfigurationError
from tests.data.numbered_loaders import Files


def test_resuming_with_other_data_names_both_sizes():
    state = ShuffleSampler(range(10)).state_dict()
    with pytest.raises(ConfigurationError, match="10 samples.*11"):
        ShuffleSampler(range(11)).load_state_dict(state)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1), (3, 6)])
def test_a_position_is_taken_up_by_another_number_of_ranks(before, after):
    whole = list(ShuffleSampler(range(44), seed=6, epoch=1))
    state = ShuffleSampler(range(44), 6, 1, num_replicas=before, rank=0).state_dict(samples=12)
    parts = []
    for rank in range(after):
        sampler = ShuffleSampler(range(44), 99, num_replicas=after, rank=rank)
        sampler.load_state_dict(state)
        parts.append(list(sampler))
        sampler.set_epoch(2)
        assert len(list(sampler)) == len(sampler), "the next epoch is whole"
    rest = [i for turn in zip(*parts, strict=True) for i in turn]
    assert rest[:32] == whole[12:]


def test_a_position_of_another_epoch_is_not_skipped_to():
    sampler = ShuffleSampler(range(10))
    sampler.load_state_dict(sampler.state_dict(samples=4))
    sampler.set_epoch(1)
    assert len(list(sampler)) == 10


def test_a_position_that_the_ranks_cannot_share_is_refused_with_the_numbers_that_can():
    state = ShuffleSampler(range(44)).state_dict(samples=10)
    with pytest.raises(ConfigurationError, match="10 samples were trained on.*4 ranks cannot.*Ranks: 1, 2, 5, 10"):
        ShuffleSampler(range(44), num_replicas=4, rank=0).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "full"}, "mode='block', the sampler now has 'full'"),
        ({"window_chunks": 3}, "window_chunks=2, the sampler now has 3"),
        ({"chunk_sizes": [22, 22]}, "6 chunks of 4 to 11 samples, now there are 2 chunks of 22 to 22 samples"),
        ({"chunk_sizes": [9, 7, 4, 11, 5, 8]}, "6 chunks of 4 to 11 samples, now there are as many of other sizes or"),
    ],
)
def test_resuming_another_order_is_refused_or_begins_the_epoch_anew(arguments, says):
    state = ShuffleSampler(Files(), seed=1, epoch=2, mode="block", window_chunks=2).state_dict(samples=4)
    settings = {"mode": "block", "window_chunks": 2, **arguments}
    with pytest.raises(ConfigurationError, match=says):
        ShuffleSampler(Files(), **settings).load_state_dict(state)
    lenient = ShuffleSampler(Files(), strict=False, **settings)
    with pytest.warns(UserWarning, match="begins anew"):
        lenient.load_state_dict(state)
    assert lenient.epoch == 2
    assert len(list(lenient)) == 44


def test_a_state_that_has_no_extent_of_its_chunks_is_compared_all_the_same():
    sampler = ShuffleSampler(Files(), mode="block")
    state = {name: value for name, value in sampler.state_dict().items() if name != "chunks"}
    assert sampler.mismatch(state) == ""
    assert "other chunks, now there are 6 chunks of 4 to 11" in sampler.mismatch({**state, "chunk_sizes_sha1": "a"})


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "no seed, epoch, n; it has nothing"),
        ({"seed": 1, "n": 10, "what": 0}, "no epoch; it has seed, n, what"),
        (None, r"\(a NoneType\) has no seed"),
    ],
)
def test_a_state_that_is_none_is_refused_with_what_is_missing(state, says):
    sampler = ShuffleSampler(range(10), seed=7)
    with pytest.raises(ConfigurationError, match=rf"ShuffleSampler\.load_state_dict: the state.*{says}"):
        sampler.load_state_dict(state)
    assert (sampler.seed, list(sampler)) == (7, list(ShuffleSampler(range(10), seed=7)))


def test_a_state_from_before_there_were_modes_is_taken():
    sampler = ShuffleSampler(range(10))
    sampler.load_state_dict({"seed": 3, "epoch": 2, "n": 10})
    assert list(sampler) == list(ShuffleSampler(range(10), 3, 2))
