from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablelit.data import ShuffleSampler
from stablelit.errors import ConfigurationError


@given(n=st.integers(1, 200), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation_and_depends_on_seed_and_epoch_alone(n, seed, epoch):
    order = list(ShuffleSampler(range(n), seed=seed, epoch=epoch))
    torch.manual_seed(epoch)
    again = ShuffleSampler(range(n), seed=seed)
    again.set_epoch(epoch)
    assert sorted(order) == list(range(n))
    assert list(again) == order


def test_iterating_neither_reads_nor_changes_the_global_random_state():
    before = torch.get_rng_state()
    list(ShuffleSampler(range(1000), seed=1))
    assert torch.equal(torch.get_rng_state(), before)


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


def test_resuming_with_other_data_names_both_sizes():
    state = ShuffleSampler(range(10)).state_dict()
    with pytest.raises(ConfigurationError, match="10 samples.*11"):
        ShuffleSampler(range(11)).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data_source": iter([])}, "has no length"),
        ({"data_source": []}, "empty"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"epoch": -1}, "epoch=-1"),
        ({"num_replicas": 2, "rank": 2}, "rank=2.*0 to 1"),
        ({"num_replicas": 2}, "both"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        ShuffleSampler(**{"data_source": range(10), **arguments})
