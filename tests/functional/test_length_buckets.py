from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablelit.functional.length_buckets import (
    cut_by_budget,
    padded_length,
    padding_ratio,
    split_to_count,
    wanted_batches,
)


@pytest.mark.slow
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), budget=st.integers(50, 200), ranks=st.integers(1, 4)
)
def test_batches_keep_the_budget_and_are_as_large_as_it_allows(lengths, budget, ranks):
    lengths = sorted(lengths, reverse=True)
    sizes = cut_by_budget(lengths, budget, ranks)
    assert sum(sizes) == len(lengths)
    at = 0
    for size in sizes:
        per_rank = -(-size // ranks)
        assert per_rank * lengths[at] <= budget
        at += size
        if at < len(lengths):
            assert size % ranks == 0
            assert (per_rank + 1) * lengths[at - size] > budget


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20), extra=st.integers(0, 30), multiple=st.integers(1, 3)
)
def test_splitting_keeps_the_order_and_reaches_the_count_if_it_can(sizes, extra, multiple):
    sizes = [size * multiple for size in sizes]
    wanted = len(sizes) + extra
    parts = split_to_count(sizes, wanted, multiple)
    assert sum(parts) == sum(sizes)
    assert all(part >= 1 and part % multiple == 0 for part in parts)
    assert len(parts) == min(wanted, sum(sizes) // multiple)
    # every old boundary is still one
    assert set(np.cumsum(sizes).tolist()) <= set(np.cumsum(parts).tolist())


def test_too_few_batches_are_never_merged():
    assert split_to_count([3, 2, 1], 1) == [3, 2, 1]


def test_what_does_not_divide_is_still_split():
    assert split_to_count([5], 2, 2) == [2, 3]


def test_padding_by_hand():
    assert padding_ratio([[3, 5], [2]]) == pytest.approx((2 * 5 + 2) / 10)
    assert padding_ratio([[3, 5], [2]], multiple_of=4) == pytest.approx((2 * 8 + 4) / 10)
    assert padded_length(np.array([1, 8, 9]), 8).tolist() == [8, 8, 16]


@pytest.mark.slow
@given(
    pools=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    share=st.floats(0, 1),
    more=st.floats(0, 1),
    data=st.data(),
)
def test_pools_that_need_no_more_than_they_may_end_at_the_wanted_number(pools, share, more, data):
    """Each pool needs some batches, any number up to one a sample; the epoch has room for all that they need."""
    n = sum(pools)
    needs = [data.draw(st.integers(1, max(1, int(size * share)))) for size in pools]
    expected = sum(needs)
    whole = expected + int((n - expected) * more)
    made = done = 0
    for i, (size, need) in enumerate(zip(pools, needs, strict=True)):
        done += size
        wanted = wanted_batches(whole, expected, made, size / n, 1 - done / n, n - done, len(pools) - i)
        made += min(max(need, wanted), size)
    assert made >= whole
