from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stablelit.data.files import existing_file, file_identity, replacing
from stablelit.data.safe_load import told_of_npz
from stablelit.errors import DataError


def test_a_file_that_is_there_is_returned(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    assert existing_file(str(tmp_path / "a.csv"), "tables", "*.csv") == tmp_path / "a.csv"


def test_a_file_that_is_not_there_names_near_ones(tmp_path):
    (tmp_path / "sensors.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"no such file.*Did you mean 'sensors\.csv'\?"):
        existing_file(tmp_path / "sensor.csv", "tables", "*.csv")
    with pytest.raises(DataError, match="There is no directory"):
        existing_file(tmp_path / "nowhere" / "sensor.csv", "tables", "*.csv")


def test_a_directory_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"is a directory; allowed: tables\. Name a file in it, or '.*/\*\.csv'"):
        existing_file(tmp_path, "tables", "*.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="0 bytes"):
        existing_file(tmp_path / "empty.csv", "tables", "*.csv")


def test_identity_changes_with_any_byte(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"\x00" * 3_000_000)
    before = file_identity(file)
    assert before == {
        "source": str(file),
        "bytes": 3_000_000,
        "sha256": hashlib.sha256(b"\x00" * 3_000_000).hexdigest(),
    }
    file.write_bytes(b"\x00" * 2_999_999 + b"\x01")
    assert file_identity(file)["sha256"] != before["sha256"]


def test_a_replacement_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    with replacing(file) as temporary:
        temporary.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"
    with pytest.raises(RuntimeError), replacing(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("content", [b"no numpy at all", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_what_numpy_raises_of_a_damaged_file_names_it(tmp_path, content):
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: "), told_of_npz(file):
        np.load(file, allow_pickle=False)
