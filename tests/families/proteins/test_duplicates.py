from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stablelit.families.proteins import duplicates
from stablelit.families.proteins.duplicates import count_duplicates


@pytest.mark.parametrize("share", [1 << 22, 64, 100, 1024])
def test_duplicates_are_those_that_a_counter_finds_whatever_the_share(monkeypatch, share):
    monkeypatch.setattr(duplicates, "_SHARE", share)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 700, dtype=np.uint64)
    hashes = values[rng.integers(0, 700, 1000)]
    count, pair = count_duplicates(hashes)
    assert count == sum(n - 1 for n in Counter(hashes.tolist()).values())
    assert pair[0] < pair[1]
    assert hashes[pair[0]] == hashes[pair[1]]
    assert hashes[pair[0]] not in hashes[: pair[0]]


def test_ids_that_all_differ_have_no_duplicate():
    assert count_duplicates(np.arange(100, dtype=np.uint64)) == (0, None)
    assert count_duplicates(np.zeros(1, dtype=np.uint64)) == (0, None)
