from __future__ import annotations

import random
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from stablelit.data import ShuffleSampler
from stablelit.errors import ConfigurationError
from tests.data.numbered_loaders import Files


@pytest.mark.slow
@given(n=st.integers(1, 200), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation_and_depends_on_seed_and_epoch_alone(n, seed, epoch):
    order = list(ShuffleSampler(range(n), seed=seed, epoch=epoch))
    torch.manual_seed(epoch)
    again = ShuffleSampler(range(n), seed=seed)
    again.set_epoch(epoch)
    assert sorted(order) == list(range(n))
    assert list(again) == order


def test_iterating_neither_reads_nor_changes_the_global_random_state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    list(ShuffleSampler(range(1000), seed=1))
    list(islice(ShuffleSampler(range(2**20 + 1), seed=1), 10))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_orders_of_different_epochs_and_seeds_have_nothing_in_common():
    n = 4096
    orders = [list(ShuffleSampler(range(n), seed=s, epoch=e)) for s in (0, 1, 2) for e in (0, 1, 2)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            # fixed points of a random permutation are Poisson(1): 12 or more happen once in 10^9
            assert sum(x == y for x, y in zip(a, b, strict=True)) < 12


@given(n=st.integers(1, 100), ranks=st.integers(1, 7), drop=st.booleans())
def test_ranks_share_the_epoch_equally(n, ranks, drop):
    parts = [
        list(ShuffleSampler(range(n), seed=5, epoch=2, drop_last=drop, num_replicas=ranks, rank=r))
        for r in range(ranks)
    ]
    assert len({len(p) for p in parts}) == 1
    together = [i for part in parts for i in part]
    if drop:
        assert len(set(together)) == len(together) == n // ranks * ranks
    else:
        assert set(together) == set(range(n))
        assert len(together) == -(-n // ranks) * ranks


def test_start_skips_within_one_epoch_only():
    sampler = ShuffleSampler(range(50), seed=1)
    whole = list(sampler)
    sampler.start = 20
    assert list(sampler) == whole[20:]
    assert list(sampler) == whole


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(10))

    def __len__(self):
        return 10


@pytest.mark.parametrize("mode", ["full", "block", "sequential"])
@pytest.mark.parametrize("n", [1, 2, 3, 44])
def test_every_mode_visits_every_sample_once_on_any_number_of_ranks(n, mode):
    for ranks in (1, 2, 3, 8):
        parts = [
            list(ShuffleSampler(range(n), 1, 0, False, ranks, r, mode, [1] * n, window_chunks=3)) for r in range(ranks)
        ]
        assert set().union(*parts) == set(range(n))
        assert {len(part) for part in parts} == {-(-n // ranks)}


def test_ranks_take_turns_in_one_order():
    for n in (44, 2**20 + 7):
        whole = list(islice(ShuffleSampler(range(n), seed=2), 40))
        parts = [list(islice(ShuffleSampler(range(n), seed=2, num_replicas=4, rank=r), 10)) for r in range(4)]
        assert [i for turn in zip(*parts, strict=True) for i in turn] == whole


def test_above_the_exact_sizes_an_epoch_still_visits_every_sample_once():
    n = 2**20 + 3
    sampler = ShuffleSampler(range(n), seed=1, epoch=4)
    order = np.fromiter(sampler, dtype=np.int64)
    assert np.array_equal(np.sort(order), np.arange(n))
    sampler.start = n - 5
    assert list(sampler) == order[-5:].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("n", [2**20, 10**7, 10**9])
def test_memory_does_not_grow_with_the_data(n):
    tracemalloc.start()
    list(
        islice(ShuffleSampler(range(n)), 200_000, None, 10_000) if n == 2**20 else islice(ShuffleSampler(range(n)), 10)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_the_sequential_mode_is_the_datas_own_order():
    assert list(ShuffleSampler(range(9), mode="sequential", epoch=3)) == list(range(9))


def test_blocks_take_the_datas_own_chunks_and_mix_a_window_of_them():
    sampler = ShuffleSampler(Files(), seed=3, mode="block", window_chunks=2)
    chunk_of = np.repeat(np.arange(6), Files.chunk_sizes)
    visited = chunk_of[list(sampler)]
    for chunk in range(6):
        places = np.flatnonzero(visited == chunk)
        assert places[-1] - places[0] < 9 + 11, "a chunk is read within its window"
    sampler.set_epoch(1)
    assert chunk_of[list(sampler)].tolist() != visited.tolist()


def test_an_attribute_that_merely_has_the_name_of_the_chunks_matters_to_blocks_only():
    class Other(Files):
        chunk_sizes = "4 MiB"

    assert ShuffleSampler(Other()).chunk_sizes is None
    with pytest.raises(ConfigurationError, match="flat sequence of ints"):
        ShuffleSampler(Other(), mode="block")


def test_numpys_integers_are_numbers_too_and_the_state_stays_plain():
    i = np.int64
    sampler = ShuffleSampler(range(10), i(3), i(1), num_replicas=i(2), rank=i(1), window_chunks=i(4))
    assert list(sampler) == list(ShuffleSampler(range(10), 3, 1, num_replicas=2, rank=1))
    sampler.set_epoch(i(5))
    numbers = (sampler.seed, sampler.epoch, sampler.num_replicas, sampler.rank, sampler.window_chunks)
    assert numbers == (3, 5, 2, 1, 4)
    assert {type(number) for number in (*numbers, *sampler.state_dict().values())} <= {int, str, list}


def test_a_long_value_is_not_shown_whole():
    with pytest.raises(ConfigurationError, match=r"chunk_sizes=\[0\.5, 0\.5,.* \.\.\. \(100000 in all\)") as error:
        ShuffleSampler(range(10), mode="block", chunk_sizes=[0.5] * 100_000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("epoch", [-1, 1.0, True])
def test_an_epoch_that_is_none_is_refused(epoch):
    with pytest.raises(ConfigurationError, match="epoch="):
        ShuffleSampler(range(10)).set_epoch(epoch)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data_source": iter([])}, "has no length"),
        ({"data_source": Stream()}, "Stream has no length or no order"),
        ({"data_source": []}, "empty"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"epoch": -1}, "epoch=-1"),
        ({"num_replicas": 2, "rank": 2}, "rank=2.*0 to 1"),
        ({"num_replicas": 2}, "both"),
        ({"num_replicas": 0, "rank": 0}, "num_replicas=0"),
        ({"mode": "chunk"}, "mode='chunk'.*'full' or 'block' or 'sequential'"),
        ({"mode": "block"}, "needs chunk_sizes.*range has no `chunk_sizes`"),
        ({"mode": "block", "chunk_sizes": [4, 5]}, "2 chunk_sizes sum to 9, but the data have 10"),
        ({"mode": "block", "chunk_sizes": [10, 0]}, r"chunk_sizes\[1\]=0"),
        ({"mode": "block", "chunk_sizes": [12, -2]}, r"chunk_sizes\[1\]=-2"),
        ({"mode": "block", "chunk_sizes": [5.0, 5.0]}, "flat sequence of ints"),
        ({"mode": "block", "chunk_sizes": [[1], [2, 3]]}, r"chunk_sizes=\[\[1\], \[2, 3\]\].*flat sequence of ints"),
        ({"num_replicas": 2, "rank": "0"}, "rank='0'.*an int of 0 or more"),
        ({"num_replicas": "2", "rank": 0}, "num_replicas='2'"),
        ({"num_replicas": 2, "rank": True}, "rank=True"),
        ({"seed": True}, "seed=True"),
        ({"drop_last": "no"}, "drop_last='no'.*True or False"),
        ({"strict": 1}, "strict=1"),
        ({"mode": "block", "chunk_sizes": [5, 5], "window_chunks": 0}, "window_chunks=0"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        ShuffleSampler(**{"data_source": range(10), **arguments})
