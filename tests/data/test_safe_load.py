"""Arrays from hostile files: headers are believed only as far as the file goes."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stablelit.data import limits
from stablelit.data.safe_load import loaded_array, opened_arrays
from stablelit.errors import DataError


def npy_bytes(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy with any header, written by the format's description."""
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def claiming(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE_HEADERS = {
    "a-terabyte": claiming("'<f8'", "(1000000000000,)"),
    "more-elements-than-a-word-counts": claiming("'<f8'", "(4294967296, 4294967296, 4)"),
    "one-element-too-many": claiming("'<f4'", "(3,)"),
    "negative": claiming("'<f8'", "(-1,)"),
    "two-negatives": claiming("'<f8'", "(-1, -1)"),
    "no-width-many-times": claiming("'<U0'", "(1000000000000,)"),
    "one-element-of-a-terabyte": claiming("'|V1000000000'", "(1000,)"),
    "objects": claiming("'|O'", "(1,)"),
    "objects-in-a-field": claiming("[('a', '<f8'), ('b', '|O')]", "(0,)"),
    "no-header": "{",
    "open-bracket": "{'descr': ('",
    "nested": "(" * 300,
    "call": "__import__('os').system('true')",
    "shape-of-text": claiming("'<f8'", "('a',)"),
    "no-type": claiming("'nothing'", "(1,)"),
    "odd-indent": " {\n  'descr'",
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=["1.0", "2.0", "3.0"])
def test_a_header_that_claims_what_is_not_there_is_refused_before_memory_is_taken(tmp_path, name, version):
    text = npy_bytes(HOSTILE_HEADERS[name], b"\0" * 8, version)
    (tmp_path / "a.npy").write_bytes(text)
    with pytest.raises(DataError, match=r"a\.npy: "):
        loaded_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", text)
    with pytest.raises(DataError, match=r"a\.npz: "), opened_arrays(tmp_path / "a.npz") as arrays:
        arrays["x"]


@pytest.mark.slow
def test_zeros_compressed_a_thousand_times_are_refused_without_being_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ALWAYS_ALLOWED_BYTES", 2**20)
    path, size = tmp_path / "bomb.npz", 16 * 2**20
    np.savez_compressed(path, x=np.zeros(size, dtype=np.uint8))
    with (
        pytest.raises(DataError, match=r"the array 'x' takes 16\.0 MiB, unpacked from 1\d\.\d KiB"),
        opened_arrays(path) as arrays,
    ):
        arrays["x"]
    np.savez(path, x=np.zeros(size, dtype=np.uint8))
    with opened_arrays(path) as arrays:
        assert arrays["x"].shape == (size,)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array("a"),
        np.array([], dtype=np.str_),
        np.array(["ä", "bc"]),
        np.zeros((0, 5), dtype=bool),
        np.array([(1, 2.0)], dtype=[("a", "<i4"), ("ü", "<f8")]),
    ],
    ids=["doubles", "fortran", "a-text", "no-text", "texts", "empty", "fields"],
)
def test_what_numpy_writes_comes_back(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x=array, y=array)
    read = loaded_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(read, np.load(tmp_path / "a.npy"))
    assert read.dtype == array.dtype
    with opened_arrays(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["x", "y"]
        assert arrays.shape("x") == array.shape
        np.testing.assert_array_equal(arrays["y"], array)


def zipped(name: bytes, method: int, flags: int) -> bytes:
    """A zip whose one member has another method or flags than it was written with."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xxxx", npy_bytes(claiming("'|u1'", "(1,)"), b"\0"))
    raw = bytearray(buffer.getvalue().replace(b"xxxx", name))
    for begin, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = raw.index(begin) + at
        raw[place : place + 4] = struct.pack("<HH", flags, method)
    return bytes(raw)


@pytest.mark.parametrize(
    ("name", "method", "flags"),
    [(b"\xff.np", 0, 0x800), (b"xxxx", 14, 0), (b"xxxx", 12, 0), (b"xxxx", 8, 0), (b"xxxx", 99, 0), (b"xxxx", 0, 1)],
    ids=["name-no-utf8", "no-lzma", "no-bzip2", "no-deflate", "unknown-method", "encrypted"],
)
def test_a_damaged_member_is_an_error_of_ours_whatever_the_decompressor_raises(tmp_path, name, method, flags):
    path = tmp_path / "a.npz"
    path.write_bytes(zipped(name, method, flags))
    with pytest.raises(DataError, match=r"a\.npz: "), opened_arrays(path) as arrays:
        arrays[next(iter(arrays))]


def test_an_array_that_is_called_npz_and_arrays_that_are_called_npy_are_told_apart(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros(2))
    Path(tmp_path / "b.npz").rename(tmp_path / "b.npy")
    with pytest.raises(DataError, match="one array without a name"), opened_arrays(tmp_path / "a.npz"):
        pass
    with pytest.raises(DataError, match="several arrays"):
        loaded_array(tmp_path / "b.npy")
