from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.splits import check_batch_ids, check_shares, first_events, split_events

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def batches(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(1, len(sizes) + 1), sizes)


def files_of(batch, splits):
    return {name: np.unique(batch[places]).tolist() for name, places in splits.indices.items()}


def test_whole_files_are_shared_out_training_first():
    batch = batches(*[10] * 27)
    splits = split_events(batch, SHARES)
    assert files_of(batch, splits) == {"train": list(range(1, 22)), "val": [22, 23, 24], "test": [25, 26, 27]}
    assert sum(len(places) for places in splits.indices.values()) == 270
    assert splits.note == "split by files: train 1 to 21, val 22 to 24, test 25 to 27"


@pytest.mark.parametrize("n_files", range(2, 40))
def test_no_event_is_in_two_splits_and_no_file_on_both_sides_of_training(n_files):
    batch = batches(*np.random.default_rng(n_files).integers(2, 9, n_files))
    indices = split_events(batch, SHARES).indices
    taken = np.concatenate(list(indices.values()))
    assert len(set(taken.tolist())) == len(taken)
    assert all(len(places) for places in indices.values())
    assert not set(batch[indices["train"]]) & (set(batch[indices["val"]]) | set(batch[indices["test"]]))


def test_events_of_a_file_need_not_lie_together():
    batch = np.random.default_rng(0).permutation(batches(*[10] * 27))
    splits = split_events(batch, SHARES)
    assert files_of(batch, splits)["val"] == [22, 23, 24]
    assert all((np.diff(places) > 0).all() for places in splits.indices.values())


def test_validation_and_test_stay_when_the_training_share_changes():
    batch = batches(*[10] * 20)
    few, many = (split_events(batch, {**SHARES, "train": share}).indices for share in (0.2, 0.8))
    assert few["val"].tolist() == many["val"].tolist()
    assert few["test"].tolist() == many["test"].tolist()
    assert few["train"].tolist() == many["train"][:40].tolist()


def test_numbers_of_events_take_the_files_that_hold_them():
    batch = batches(*[10] * 10)
    splits = split_events(batch, {"train": 25, "val": 15, "test": 10})
    assert files_of(batch, splits) == {"train": [1, 2, 3], "val": [8, 9], "test": [10]}
    assert [len(splits.indices[name]) for name in ("train", "val", "test")] == [25, 15, 10]


def test_of_two_files_one_is_for_training():
    batch = batches(10, 7)
    indices = split_events(batch, SHARES).indices
    assert indices["train"].tolist() == list(range(10))
    assert indices["val"].tolist() == [10, 12, 14, 16]
    assert indices["test"].tolist() == [11, 13, 15]


def test_one_file_is_split_at_random_by_the_seed_and_that_is_said():
    first, again, other = (split_events(batches(100), SHARES, seed=seed) for seed in (0, 0, 1))
    assert "there is one file" in first.note
    assert {name: len(places) for name, places in first.indices.items()} == {"train": 80, "val": 10, "test": 10}
    assert sorted(np.concatenate(list(first.indices.values())).tolist()) == list(range(100))
    assert first.indices["val"].tolist() == again.indices["val"].tolist() != other.indices["val"].tolist()


def test_named_files_are_taken_as_they_are():
    batch = batches(3, 3, 3, 3)
    splits = split_events(batch, SHARES, {"train": [4, 1], "val": [2], "test": [3]})
    assert files_of(batch, splits) == {"train": [1, 4], "val": [2], "test": [3]}


@pytest.mark.parametrize(("most", "files"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (30, 3), (10_000, 3)])
def test_the_first_events_come_evenly_from_the_first_files_that_hold_them(most, files):
    batch = batches(10, 10, 10)
    chosen = first_events(batch, np.arange(30), most)
    assert len(chosen) == min(most, 30)
    assert set(batch[chosen]) == set(range(1, files + 1)) or most == 1
    gaps = np.diff(chosen)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_training_alone_is_cut():
    splits = split_events(batches(*[10] * 10), SHARES, max_events=15)
    assert {name: len(places) for name, places in splits.indices.items()} == {"train": 15, "val": 10, "test": 10}
    assert splits.indices["train"].max() < 20


@pytest.mark.parametrize(
    ("sizes", "shares", "message"),
    [
        (
            (10, 10, 10),
            {"train": 25, "val": 5, "test": 5},
            r"train=25, val=5, test=5 need 2 \+ 1 \+ 1 files.*there are 3",
        ),
        ((10, 10), {"train": 11, "val": 5, "test": 5}, r"train=11 events, but its files hold 10"),
        ((10,), {"train": 9, "val": 5, "test": 5}, r"need 19 events, but there are 10"),
        ((10,), {"train": 0.9, "val": 0.05, "test": 0.05}, r"val=0\.05 of 10 events leaves the split without"),
    ],
)
def test_what_is_too_much_or_too_little_is_told_with_numbers(sizes, shares, message):
    with pytest.raises(ConfigurationError, match=message):
        split_events(batches(*sizes), shares)


@pytest.mark.parametrize("share", [0, -1, 0.0, 1.5, True, "half"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigurationError, match="val="):
        check_shares({**SHARES, "val": share})


def test_shares_of_more_than_all_are_refused():
    with pytest.raises(ConfigurationError, match=r"add up to 1\.1"):
        check_shares({"train": 0.8, "val": 0.2, "test": 0.1})


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"train": [1], "val": [2], "test": None}, "batch_ids_train is given and batch_ids_test is not"),
        ({"train": [1, 2], "val": [2], "test": [3]}, "batch 2 is in batch_ids_train and in batch_ids_val"),
        ({"train": [1], "val": [2], "test": [1]}, "batch 1 is in batch_ids_train and in batch_ids_test"),
        ({"train": [], "val": [2], "test": [1]}, r"batch_ids_train=\[\]"),
        ({"train": [1.5], "val": [2], "test": [1]}, r"batch_ids_train=\[1\.5\]"),
        ({"train": "12", "val": [2], "test": [1]}, "batch_ids_train='12'"),
    ],
)
def test_batch_ids_that_cannot_be_are_refused(ids, message):
    with pytest.raises(ConfigurationError, match=message):
        check_batch_ids(ids)
    assert check_batch_ids({"train": None, "val": None, "test": None}) is None
