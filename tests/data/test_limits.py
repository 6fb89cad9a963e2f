"""What a file may ask for is held against what it is."""

from __future__ import annotations

import pytest

from stablelit.data import limits
from stablelit.data.limits import ALWAYS_ALLOWED_BYTES, MOST_TIMES_ITS_SIZE, check_unpacked, memory_bytes
from stablelit.errors import DataError


@pytest.mark.parametrize(
    ("unpacked", "stored"),
    [(ALWAYS_ALLOWED_BYTES, 1), (ALWAYS_ALLOWED_BYTES + MOST_TIMES_ITS_SIZE, ALWAYS_ALLOWED_BYTES), (0, 0)],
)
def test_what_is_small_or_not_much_larger_than_its_file_is_allowed(monkeypatch, unpacked, stored):
    monkeypatch.setattr(limits, "memory_bytes", lambda: 2**40)
    check_unpacked("a.npz", unpacked, stored, "the array", "")


def test_one_byte_beyond_two_hundred_times_the_file_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "memory_bytes", lambda: 2**40)
    stored = 2 * 2**20
    check_unpacked("a.npz", MOST_TIMES_ITS_SIZE * stored, stored, "the array", "")
    with pytest.raises(DataError, match=r"a\.npz: the array takes 400\.0 MiB, unpacked from 2\.0 MiB.*Do so\."):
        check_unpacked("a.npz", MOST_TIMES_ITS_SIZE * stored + 1, stored, "the array", "Do so.")


def test_what_the_machine_cannot_hold_is_refused_whatever_is_stored():
    needed = memory_bytes()
    with pytest.raises(DataError, match="which is what this machine has memory for"):
        check_unpacked("a.npz", needed, needed, "the array", "")
