from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.splits import (
    N_BUCKETS,
    buckets_of_ids,
    buckets_of_numbers,
    check_shares,
    split_rows,
)


def test_buckets_are_blake2b_of_the_id_modulo_ten_thousand():
    ids = [b"UniRef50_Q9K794", b"", b"tr|A7TBS3|A7TBS3_NEMVE"]
    wanted = [int.from_bytes(hashlib.blake2b(i, digest_size=8).digest(), "little") % 10_000 for i in ids]
    assert buckets_of_ids(ids).tolist() == wanted


def test_more_data_move_no_sequence_to_another_split():
    ids = [b"P%05d" % i for i in range(4000)]
    ranges = check_shares({"train": 0.8, "val": 0.1, "test": 0.1})
    few, many = split_rows(buckets_of_ids(ids[:1000]), ranges), split_rows(buckets_of_ids(ids), ranges)
    for name, rows in few.items():
        assert rows.tolist() == [row for row in many[name].tolist() if row < 1000]


def test_a_larger_share_takes_in_what_a_smaller_one_had():
    buckets = buckets_of_ids([b"P%05d" % i for i in range(4000)])
    small = split_rows(buckets, check_shares({"train": 0.3, "val": 0.1, "test": 0.2}))
    large = split_rows(buckets, check_shares({"train": 0.7, "val": 0.1, "test": 0.2}))
    assert set(small["train"]) < set(large["train"])
    assert small["val"].tolist() == large["val"].tolist()
    assert small["test"].tolist() == large["test"].tolist()


def test_splits_share_no_sequence_and_full_shares_leave_none():
    buckets = np.arange(N_BUCKETS, dtype=np.uint16)
    rows = split_rows(buckets, check_shares({"train": 0.9, "val": 0.05, "test": 0.05}))
    assert {name: len(r) for name, r in rows.items()} == {"train": 9000, "val": 500, "test": 500}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(N_BUCKETS))


def test_thirds_that_are_rounded_up_do_not_overlap():
    rows = split_rows(
        np.arange(N_BUCKETS, dtype=np.uint16), check_shares({"train": 1 / 3, "val": 1 / 3, "test": 1 / 3})
    )
    joined = np.concatenate(list(rows.values()))
    assert len(np.unique(joined)) == len(joined)


@pytest.mark.parametrize("n", [40, 100, 999, 20_000])
def test_numbered_sequences_hold_their_shares_to_two_of_them_and_stay(n):
    buckets = buckets_of_numbers(n)
    assert buckets.tolist() == buckets_of_numbers(2 * n)[:n].tolist()
    rows = split_rows(buckets, check_shares({"train": 0.9, "val": 0.05, "test": 0.05}))
    for name, share in (("train", 0.9), ("val", 0.05), ("test", 0.05)):
        assert abs(len(rows[name]) - share * n) <= 2, name


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"train": 0.9, "val": 0.1, "test": 0.1}, "add up to 1.1"),
        ({"train": 0.0, "val": 0.1, "test": 0.1}, "train=0.0"),
        ({"train": "0.5", "val": 0.1, "test": 0.1}, "train='0.5'"),
        ({"train": 0.5, "val": 1e-6, "test": 0.1}, "val=1e-06"),
    ],
)
def test_shares_outside_their_range_are_refused(shares, told):
    with pytest.raises(ConfigurationError, match=told):
        check_shares(shares)


def test_a_split_without_a_sequence_is_refused():
    with pytest.raises(ConfigurationError, match=r"val=0\.1 of 2 sequences leaves the split without one"):
        split_rows(np.array([0, 9999], dtype=np.uint16), check_shares({"train": 0.8, "val": 0.1, "test": 0.1}))
