from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader, SequentialSampler

from stablelit.data import EvaluationBatches, LengthBucketBatchSampler, ShuffleDataLoader, ShuffleSampler
from stablelit.data.evaluation_batches import number_among_ranks, weight_among_ranks
from stablelit.errors import ConfigurationError


def in_order(n, ranks=1, rank=0):
    return ShuffleSampler(range(n), mode="sequential", num_replicas=ranks, rank=rank)


def of_ranks(n, batch_size, ranks):
    return [EvaluationBatches(in_order(n, ranks, rank), batch_size) for rank in range(ranks)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_sample_comes_once_in_equally_many_batches_on_each_rank(batch_size, ranks):
    for n in range(ranks, 45):
        shares = [list(batches) for batches in of_ranks(n, batch_size, ranks)]
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(n))
        assert {len(share) for share in shares} == {len(of_ranks(n, batch_size, ranks)[0])}
        sizes = [[len(batch) for batch in share] for share in shares]
        assert all(0 < size <= batch_size + 1 for share in sizes for size in share)
        for step in zip(*sizes, strict=True):
            assert max(step) - min(step) <= 1


def test_one_process_has_the_batches_of_a_plain_loader():
    for n in range(1, 20):
        plain = [batch.tolist() for batch in DataLoader(range(n), batch_size=4)]
        assert list(EvaluationBatches(in_order(n), 4)) == plain


def test_batches_of_ranks_are_those_of_one_process_by_their_number():
    whole = list(EvaluationBatches(in_order(24), 4))

    class Trainer:
        def __init__(self, rank):
            self.world_size, self.global_rank = 3, rank

    for rank, batches in enumerate(of_ranks(24, 4, 3)):
        for batch_idx, batch in enumerate(batches):
            assert batch == whole[number_among_ranks(Trainer(rank), batch_idx)]
    assert number_among_ranks(None, 5) == 5
    assert weight_among_ranks(Trainer(0), 5) == 15
    assert weight_among_ranks(None, 5) == 5


def test_fewer_samples_than_ranks_are_repeated_and_that_is_said():
    with pytest.warns(UserWarning, match="2 samples to evaluate for 3 ranks: 1 are counted twice"):
        assert [list(batches) for batches in of_ranks(2, 4, 3)] == [[[0]], [[1]], [[0]]]


def test_a_sampler_of_somebody_else_is_cut_as_torch_does():
    assert list(EvaluationBatches(SequentialSampler(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert len(EvaluationBatches(SequentialSampler(range(5)), 2)) == 3


@pytest.mark.parametrize(("batch_size", "drop_last", "said"), [(0, False, "batch_size=0"), (4, True, "drop_last=True")])
def test_what_would_leave_samples_out_is_refused(batch_size, drop_last, said):
    with pytest.raises(ConfigurationError, match=said):
        EvaluationBatches(in_order(8), batch_size, drop_last)


def test_a_loader_takes_it_and_gives_every_epoch_the_same():
    loader = ShuffleDataLoader(range(7), batch_sampler=EvaluationBatches(in_order(7), 3))
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        assert [batch.tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("cut", [{"batch_size": 4}, {"batch_size": 1}, {"max_tokens": 24}], ids=["4", "1", "tokens"])
def test_buckets_have_every_sample_once_too(cut, ranks):
    for n in (ranks, 7, 8, 33, 64, 65):
        lengths = np.random.default_rng(n).integers(1, 13, n)
        shares = [
            list(
                LengthBucketBatchSampler(
                    in_order(n, ranks, rank), lengths, **cut, pool_batches=2, every_sample_once=True
                )
            )
            for rank in range(ranks)
        ]
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(n))
        assert len({len(share) for share in shares}) == 1
        for step in zip(*shares, strict=True):
            sizes = [len(batch) for batch in step]
            assert min(sizes) > 0
            assert max(sizes) - min(sizes) <= 1
            if "max_tokens" in cut:
                assert (max(sizes) - 1) * max(lengths[batch].max() for batch in step) <= 24 or ranks == 1
        if ranks == 1 and "max_tokens" in cut:
            assert all(len(batch) * lengths[batch].max() <= 24 for batch in shares[0])


def test_buckets_of_one_process_are_what_they_are_without_it():
    lengths = np.random.default_rng(0).integers(1, 13, 33)
    plain, once = (
        list(LengthBucketBatchSampler(in_order(33), lengths, batch_size=4, pool_batches=2, every_sample_once=every))
        for every in (False, True)
    )
    assert plain == once


def test_buckets_of_an_order_that_changes_cannot_promise_it():
    with pytest.raises(ConfigurationError, match="mode='full'"):
        LengthBucketBatchSampler(ShuffleSampler(range(4)), [1] * 4, batch_size=2, every_sample_once=True)
