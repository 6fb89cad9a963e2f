from __future__ import annotations

import gc
import os

import pytest

from stablelit.data.mapped_files import MappedFiles
from stablelit.errors import DataError


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(bytes(1000))
    return path, MappedFiles([path])


def test_a_file_that_is_cut_short_is_told_with_both_sizes(mapped):
    path, files = mapped
    files.require_whole()
    os.truncate(path, 10)
    with pytest.raises(DataError, match=r"tokens\.bin: was cut short while it was read: it had 1000 bytes and has 10"):
        files.require_whole()


@pytest.mark.parametrize("how", ["deleted", "replaced", "longer"])
def test_a_file_that_whoever_maps_it_still_has_whole_is_no_error(mapped, how):
    path, files = mapped
    if how == "longer":
        with path.open("ab") as file:
            file.write(b"more")
    else:
        path.unlink()
        if how == "replaced":
            path.write_bytes(b"short")
    files.require_whole()


@pytest.mark.slow
def test_descriptors_are_given_back(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    gc.collect()  # of tests before this one
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        MappedFiles([tmp_path / "a"] * 3)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
