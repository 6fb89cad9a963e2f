from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import RandomSampler, TensorDataset

from stablelit.data import LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.errors import ConfigurationError, DataError
from tests.contract.modules import make_trainer

N = 230
LENGTHS = np.random.default_rng(0).lognormal(3, 1, N).astype(int).clip(1, 200)


def _batches(ranks=1, rank=0, seed=3, epoch=0, lengths=LENGTHS, start=0, order=None, **kwargs):
    sampler = ShuffleSampler(range(len(lengths)), seed, epoch, num_replicas=ranks, rank=rank, **(order or {}))
    buckets = LengthBucketBatchSampler(sampler, lengths, **kwargs)
    buckets.start = start
    made = list(buckets)
    assert len(made) == len(buckets) - start
    return made


KINDS = [{"batch_size": 8, "pool_batches": 6}, {"max_tokens": 400, "pool_batches": 6, "multiple_of": 8}]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["fixed", "budget"])


@every_kind
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_sample_comes_once_and_every_rank_makes_as_many_steps_in_every_epoch(kind, ranks):
    steps = set()
    for epoch in range(4):
        parts = [_batches(ranks, r, epoch=epoch, **kind) for r in range(ranks)]
        steps |= {len(part) for part in parts}
        visited = [i for part in parts for batch in part for i in batch]
        assert set(visited) == set(range(N))
        assert len(visited) <= N + ranks - 1
    assert len(steps) == 1


@pytest.mark.slow
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=120),
    pool=st.integers(1, 5),
    ranks=st.integers(1, 4),
    epoch=st.integers(0, 5),
    drop=st.booleans(),
)
@settings(max_examples=60)
def test_a_budget_is_kept_whatever_the_lengths(lengths, pool, ranks, epoch, drop):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        parts = [
            _batches(
                ranks,
                r,
                epoch=epoch,
                lengths=np.array(lengths),
                order={"drop_last": drop},
                max_tokens=64,
                pool_batches=pool,
                multiple_of=4,
            )
            for r in range(ranks)
        ]
    assert len({len(part) for part in parts}) == 1
    for part in parts:
        assert all(len(batch) * -(-max(lengths[i] for i in batch) // 4) * 4 <= 64 for batch in part)
    visited = [i for part in parts for batch in part for i in batch]
    if said:  # pools of a few batches can differ so much that an epoch needs more steps than others
        assert pool < 3
        assert f"{len(lengths) - len(set(visited))} of {len(lengths)} samples do not fit" in str(said[0].message)
    elif drop:
        assert len(set(visited)) == len(visited) == len(lengths) // ranks * ranks
    else:
        assert set(visited) == set(range(len(lengths)))


@every_kind
def test_batches_hold_neighbours_in_length(kind):
    batches = _batches(**kind)
    spread = np.mean([np.ptp(LENGTHS[batch]) for batch in batches])
    at_random = np.mean([np.ptp(LENGTHS[np.arange(i, min(i + 8, N))]) for i in range(0, N, 8)])
    assert spread < at_random / 3


@every_kind
def test_ranks_share_neighbours_at_every_step(kind):
    a, b = (_batches(2, rank, **kind) for rank in range(2))
    longest = np.array([[LENGTHS[x].max(), LENGTHS[y].max()] for x, y in zip(a, b, strict=True)])
    assert np.abs(np.diff(longest, axis=1)).mean() < 0.2 * longest.mean()


@every_kind
def test_the_order_of_batches_does_not_follow_the_length(kind):
    longest = [LENGTHS[batch].max() for epoch in range(10) for batch in _batches(epoch=epoch, **kind)]
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 5 / np.sqrt(len(longest))


@every_kind
def test_an_epoch_is_a_function_of_seed_and_epoch(kind):
    assert _batches(**kind) == _batches(**kind)
    assert _batches(**kind) != _batches(epoch=1, **kind)
    assert _batches(**kind) != _batches(seed=4, **kind)


@every_kind
@pytest.mark.parametrize("start", [1, 5, 6, 7, 20, 28])
def test_it_starts_at_any_batch(kind, start):
    assert _batches(start=start, **kind) == _batches(**kind)[start:]


@pytest.mark.parametrize("order", [{}, {"drop_last": True}], ids=["repeat", "drop"])
def test_the_same_global_batches_come_on_any_number_of_ranks(order):
    alone = _batches(batch_size=8, pool_batches=6, order=order)
    for ranks in (2, 4):
        parts = [_batches(ranks, r, batch_size=8 // ranks, pool_batches=6, order=order) for r in range(ranks)]
        together = [{i for part in step for i in part} for step in zip(*parts, strict=True)]
        partial = len(order) and N % 8 % ranks
        for mine, theirs in zip(together, alone, strict=True):
            assert mine == set(theirs) or (partial and len(theirs) < 8)


def test_the_sequential_order_is_sorted_within_a_pool_and_not_shuffled():
    batches = _batches(batch_size=8, pool_batches=6, order={"mode": "sequential"})
    assert sorted(i for batch in batches[:6] for i in batch) == list(range(48))
    assert [LENGTHS[b].max() for b in batches[:6]] == sorted((LENGTHS[b].max() for b in batches[:6]), reverse=True)


def test_drop_last_leaves_out_the_partial_batch():
    batches = _batches(batch_size=8, pool_batches=6, drop_last=True)
    assert {len(batch) for batch in batches} == {8}
    assert len(batches) == N // 8


def test_pools_of_64_batches_need_little_padding():
    rng = np.random.default_rng(1)
    lengths = rng.lognormal(4, 1, 40_000).astype(int).clip(1, 512)
    sampler = ShuffleSampler(range(len(lengths)))
    assert LengthBucketBatchSampler(sampler, lengths, batch_size=64).padding_ratio() < 1.06
    assert LengthBucketBatchSampler(sampler, lengths, max_tokens=8192).padding_ratio() < 1.06
    random = LengthBucketBatchSampler(sampler, lengths, batch_size=64, pool_batches=1).padding_ratio()
    assert random > 3


def test_tiny_data_and_batches_larger_than_the_data_make_one_batch():
    for n in (1, 2, 3):
        assert [sorted(b) for b in _batches(lengths=np.arange(1, n + 1), batch_size=50)] == [list(range(n))]
        assert [sorted(b) for b in _batches(lengths=np.arange(1, n + 1), max_tokens=50)] == [list(range(n))]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "either batch_size or max_tokens"),
        ({"batch_size": 4, "max_tokens": 4}, "either batch_size or max_tokens"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_tokens": 2.5}, "max_tokens=2.5"),
        ({"batch_size": 4, "drop_last": "no"}, "drop_last='no'.*True or False"),
        ({"batch_size": 4, "pool_batches": 0}, "pool_batches=0"),
        ({"batch_size": 4, "multiple_of": 0}, "multiple_of=0"),
        ({"batch_size": 4, "max_length": 0}, "max_length=0"),
        ({"batch_size": 4, "sampler": RandomSampler(range(5))}, "RandomSampler.*ShuffleDataLoader"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        LengthBucketBatchSampler(**{"sampler": ShuffleSampler(range(5)), "lengths": [1, 2, 3, 4, 5], **arguments})


def test_numpys_integers_are_numbers_too_and_the_settings_stay_plain():
    names = ("batch_size", "pool_batches", "multiple_of", "max_length")
    buckets = LengthBucketBatchSampler(ShuffleSampler(range(N)), LENGTHS, **{name: np.int64(8) for name in names})
    assert list(buckets) == list(LengthBucketBatchSampler(ShuffleSampler(range(N)), LENGTHS, **dict.fromkeys(names, 8)))
    assert {type(value) for value in (*buckets.settings().values(), buckets.global_batch)} <= {int, str, bool, list}


def test_overfit_batches_is_told_what_to_use_instead(tmp_path):
    """Lightning builds the batch sampler anew around a SequentialSampler of its own."""
    data = TensorDataset(torch.zeros(N, 1))
    buckets = LengthBucketBatchSampler(ShuffleSampler(data), LENGTHS, batch_size=8)
    trainer = make_trainer(tmp_path, [], overfit_batches=2)
    with pytest.raises(ConfigurationError, match="SequentialSampler.*overfit_batches, use limit_train_batches instead"):
        trainer.fit(BoringModel(), ShuffleDataLoader(data, batch_sampler=buckets))


@pytest.mark.parametrize(
    ("lengths", "arguments", "says"),
    [
        ([1, 2, 0, 4, -1], {"batch_size": 2}, r"lengths\[2\]=0 is below 1 \(2 of 5 are\)"),
        ([1, 2, 30, 4, 5], {"max_tokens": 8}, r"lengths\[2\]=30 is above max_tokens=8.*max_length"),
        ([1, 2, 7, 4, 5], {"max_tokens": 10, "multiple_of": 8, "max_length": 9}, None),
        ([1, 2, 9, 4, 5], {"max_tokens": 10, "multiple_of": 8}, r"lengths\[2\]=9 is above max_tokens=10 \(padded to"),
        ([1, 2], {"batch_size": 2}, r"shape \(2,\).*each of the 5 samples"),
        ([1.0, 2, 3, 4, 5], {"batch_size": 2}, "type float64"),
        ([[1], [2, 3], [4], [5], [6]], {"batch_size": 2}, "rows of different lengths; it needs one int a sample"),
        ([], {"batch_size": 2}, "one int for each of the 5 samples"),
    ],
)
def test_bad_lengths_are_refused_with_their_place(lengths, arguments, says):
    if says is None:
        LengthBucketBatchSampler(ShuffleSampler(range(5)), lengths, **arguments)
        return
    with pytest.raises(DataError, match=says):
        LengthBucketBatchSampler(ShuffleSampler(range(5)), lengths, **arguments)


def test_lengths_are_cut_where_the_collate_function_cuts():
    batches = _batches(lengths=np.array([5, 500, 4, 6]), max_tokens=8, max_length=8)
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]
