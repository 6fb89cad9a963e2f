from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins.crops import random_first, tiles


def test_every_first_residue_is_as_likely_the_last_one_included():
    ids = np.arange(60_000)
    first = random_first(np.full(len(ids), 5), ids, seed=3, epoch=1)
    counts = np.bincount(first, minlength=6)
    assert len(counts) == 6
    # chi-square of 5 degrees of freedom: 20.5 has a chance of 0.001
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5


def test_windows_depend_on_seed_epoch_and_id_alone():
    free, ids = np.full(1000, 1000), np.arange(1000)
    whole = random_first(free, ids, seed=1, epoch=2)
    order = np.random.default_rng(0).permutation(1000)
    assert random_first(free, ids[order], 1, 2).tolist() == whole[order].tolist()
    assert random_first(free[:7], ids[:7], 1, 2).tolist() == whole[:7].tolist()
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        assert (random_first(free, ids, seed, epoch) == whole).mean() < 0.01


def test_a_sequence_as_long_as_its_window_begins_at_its_beginning():
    assert random_first(np.zeros(50, dtype=np.int64), np.arange(50), 0, 0).tolist() == [0] * 50


def test_windows_of_consecutive_epochs_are_independent():
    free, ids = np.full(20_000, 99), np.arange(20_000)
    one, two = (random_first(free, ids, 0, epoch) for epoch in (0, 1))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


@pytest.mark.parametrize("max_length", [1, 3, 4, 512])
def test_tiles_have_every_residue_once_and_are_equal_to_a_residue(max_length):
    lengths = np.array([1, 2, 3, 4, 5, 12, 13, 40])
    sequence, number, first, length = tiles(lengths, max_length)
    for s, whole in enumerate(lengths.tolist()):
        mine = sequence == s
        covered = [
            place
            for begin, size in zip(first[mine].tolist(), length[mine].tolist(), strict=True)
            for place in range(begin, begin + size)
        ]
        assert covered == list(range(whole))
        assert number[mine].tolist() == list(range(int(mine.sum())))
        assert mine.sum() == -(-whole // max_length)
        assert length[mine].max() <= max_length
        assert length[mine].max() - length[mine].min() <= 1
