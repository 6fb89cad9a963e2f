from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from stablelit.data import (
    LengthBucketBatchSampler,
    ShuffleDataLoader,
    ShuffleSampler,
    SkippedBatch,
    leave_out,
    read_skipped,
)
from stablelit.errors import DataError


class Chunked(torch.utils.data.Dataset):
    """Twelve samples in files of 5, 1 and 6."""

    def __init__(self):
        self.chunk_sizes, self.cache_size, self.chunk_loads = [5, 1, 6], 2, 7
        self.lengths = np.arange(1, 13)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return 100 + index


class Together(Chunked):
    def __getitems__(self, indices):
        return torch.tensor(indices) + 100


def a_batch(**changes):
    plain = {"epoch": 1, "batch": 2, "step": 3, "rank": 0, "reason": "NaN", "quantity": "loss", "guilty": True}
    return SkippedBatch(**{**plain, "ids": (4, 5, 6), "culprits": (5,), **changes})


def write(path, *batches):
    path.write_text("".join(batch.line() for batch in batches))
    return path


@pytest.mark.parametrize("gone", [[], [0], [11], [0, 1, 2], [4, 5, 6], [3, 11, 3], list(range(11)), list(range(1, 12))])
def test_the_others_keep_their_order_and_their_chunks(gone):
    data = Chunked()
    kept = leave_out(data, gone)
    others = [i for i in range(12) if i not in gone]
    assert [kept[i] for i in range(len(kept))] == [100 + i for i in others]
    assert kept.original(range(len(kept))).tolist() == others
    chunks = np.split(np.arange(12), np.cumsum(data.chunk_sizes)[:-1])
    expected = [n for n in (sum(i not in gone for i in chunk) for chunk in chunks) if n]
    assert kept.chunk_sizes == expected
    assert kept.lengths.tolist() == [i + 1 for i in others]
    assert (kept.cache_size, kept.chunk_loads) == (2, 7)


def test_a_batch_is_read_at_once_where_the_data_set_can():
    assert leave_out(Together(), [2]).__getitems__([0, 2, 10]).tolist() == [100, 103, 111]
    assert leave_out(Chunked(), [2]).__getitems__([0, 2, 10]) == [100, 103, 111]


def test_plain_data_sets_gain_no_contracts_and_negative_numbers_count_from_the_end():
    kept = leave_out(torch.utils.data.TensorDataset(torch.arange(4)), [3])
    assert not any(hasattr(kept, name) for name in ("chunk_sizes", "cache_size", "lengths", "chunk_loads"))
    assert kept[-1][0] == 2
    with pytest.raises(IndexError):
        kept[3]
    assert pickle.loads(pickle.dumps(kept))[0][0] == 0


def test_samplers_of_the_suite_take_it():
    kept = leave_out(Chunked(), [5, 7])
    sampler = ShuffleSampler(kept, mode="block", window_chunks=2)
    batches = LengthBucketBatchSampler(sampler, kept.lengths, batch_size=3)
    seen = torch.cat([batch for batch in ShuffleDataLoader(kept, batch_sampler=batches)])
    assert sorted(seen.tolist()) == [100 + i for i in range(12) if i not in (5, 7)]


def test_a_file_names_culprits_or_whole_batches(tmp_path):
    unknown = a_batch(ids=(0, 1), culprits=())
    innocent = a_batch(ids=(9,), guilty=False, culprits=())
    path = write(tmp_path / "skipped.jsonl", a_batch(), unknown, innocent)
    assert read_skipped(tmp_path) == read_skipped(path) == [a_batch(), unknown, innocent]
    with pytest.warns(UserWarning, match="of 2 batches 1 stay in.*only_culprits=False"):
        assert leave_out(Chunked(), path).left_out.tolist() == [5]
    assert leave_out(Chunked(), tmp_path, only_culprits=False).left_out.tolist() == [0, 1, 5]


def test_batches_whose_samples_nobody_knows_are_said(tmp_path):
    path = write(tmp_path / "skipped.jsonl", a_batch(ids=(), culprits=()))
    with pytest.warns(UserWarning, match="their samples are not known"):
        assert len(leave_out(Chunked(), path, only_culprits=False)) == 12


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", '{"epoch": 1}', a_batch().line().replace("[5]", '["five"]'), a_batch().line().replace("[5]", "5")],
)
def test_a_broken_line_is_told_with_file_and_number(line, tmp_path):
    path = tmp_path / "skipped.jsonl"
    path.write_text(a_batch().line() + line + "\n")
    with pytest.raises(DataError, match=r"skipped.jsonl:2: not a skipped batch"):
        leave_out(Chunked(), path)


def test_bad_ids_are_told(tmp_path):
    for wrong in ([12], [-1], [True], ["1"], [1.0]):
        with pytest.raises(DataError, match=r"the given ids: there is no sample .* among 12"):
            leave_out(Chunked(), wrong)
    with pytest.raises(DataError, match="no list of skipped batches"):
        leave_out(Chunked(), tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="all 12 samples would be left out"):
        leave_out(Chunked(), range(12))
    path = write(tmp_path / "skipped.jsonl", a_batch(culprits=(40,)))
    with pytest.raises(DataError, match=r"skipped.jsonl: there is no sample 40 among 12"):
        leave_out(Chunked(), path)


def test_bytes_that_are_no_text_are_a_line_that_is_none(tmp_path):
    (tmp_path / "skipped.jsonl").write_bytes(b"\xe7\n")
    with pytest.raises(DataError, match=r"skipped\.jsonl:1: not a skipped batch"):
        read_skipped(tmp_path / "skipped.jsonl")
