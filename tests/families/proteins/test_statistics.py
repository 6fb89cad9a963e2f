from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins import statistics
from stablelit.families.proteins.sequences import Sequences
from stablelit.families.proteins.statistics import residue_counts, unigram_of


@pytest.fixture
def many() -> Sequences:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 60, 300))]).astype(np.int64)
    tokens = rng.integers(0, 21, int(offsets[-1])).astype(np.uint8)
    return Sequences(tokens, offsets, np.zeros(300, dtype=np.uint16), "many")


@pytest.mark.parametrize("at_once", [1 << 22, 100, 7])
def test_residues_are_counted_once_each_whatever_is_read_at_once(many, monkeypatch, at_once):
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    rows = np.arange(0, 300, 7)
    wanted = np.bincount(np.concatenate([many[row] for row in rows]), minlength=21)
    assert residue_counts(many, rows).tolist() == wanted.tolist()


def test_of_too_many_about_so_many_are_counted_spread_evenly(many):
    total = len(many.tokens)
    counts = residue_counts(many, np.arange(300), most_residues=total // 10)
    assert 0.05 * total < counts.sum() < 0.2 * total


def test_a_residue_that_was_not_seen_has_a_share_all_the_same():
    counts = np.zeros(21, dtype=np.int64)
    counts[[0, 20]] = 80, 1000
    share = unigram_of(counts)
    assert share[0] == pytest.approx(81 / 100)
    assert share[1] == pytest.approx(1 / 100)
    assert share.sum() == pytest.approx(1)
