"""Files of torch.save from somebody else: data, and no more than the file holds."""

from __future__ import annotations

import zipfile

import pytest
import torch
from torch import nn

from stablelit.data import limits
from stablelit.data.tensor_files import HoldsObjectsError, plain_tensors
from stablelit.errors import DataError


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_tensors_and_plain_data_come_back(tmp_path, archive):
    content = {"a": torch.arange(6.0).view(2, 3), "b": [1, "x", None, (2.5,)], "c": torch.zeros(3).expand(4, 3)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    read = plain_tensors(tmp_path / "a.pt", mapped=True)
    assert torch.equal(read["a"], content["a"])
    assert read["b"] == content["b"]


def test_objects_are_not_made_and_are_named(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(HoldsObjectsError, match=r"a\.pt: holds Python objects.*\(torch\.nn\.") as caught:
        plain_tensors(tmp_path / "a.pt")
    assert caught.value.found == "torch.nn.modules.linear.Linear"


def test_a_view_that_stands_for_more_than_is_stored_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ALWAYS_ALLOWED_BYTES", 2**20)
    # four bytes that are a terabyte for whoever copies them, deep inside
    torch.save({"x": [{"y": torch.zeros(1).expand(2**38)}]}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"the tensors in it takes? 1\.0 TiB|the tensors in it take"):
        plain_tensors(tmp_path / "a.pt")


def test_an_archive_that_was_compressed_a_thousand_times_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ALWAYS_ALLOWED_BYTES", 2**20)
    torch.save(torch.zeros(2**22), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", 8, compresslevel=9) as out,
    ):
        for info in plain.infolist():
            out.writestr(info.filename, plain.read(info))
    with pytest.raises(DataError, match=r"b\.pt: the archive takes 16\.0 MiB"):
        plain_tensors(tmp_path / "b.pt")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02", b"PK\x03\x04", b"\x80\x02j\xff\xff\xff", b"\x80\x02]q\x00.", b"\x80\x02(((((." + b"0" * 40],
    ids=["empty", "no-opcode", "zip-head", "cut-opcode", "a-list", "marks"],
)
def test_damaged_bytes_end_in_an_error_of_ours(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pt: cannot be read as a file of torch\.save"):
        plain_tensors(tmp_path / "a.pt")


def test_a_list_that_holds_itself_is_walked_once(tmp_path):
    # ]q\0h\0a: a list, kept as 0, to which 0 is appended, as torch's legacy files hold their content
    from stablelit.data.tensor_files import _tensor_bytes

    held: list[object] = [torch.zeros(3)]
    held.append(held)
    assert _tensor_bytes(held) == 12


def test_an_archive_that_claims_to_span_several_disks_is_damaged(tmp_path):
    from stablelit.data.checkpoint_files import damage_of

    torch.save(torch.zeros(2), tmp_path / "a.ckpt")
    raw = (tmp_path / "a.ckpt").read_bytes()
    # in front of the end of the directory, a pointer to one of the 64-bit kind on another disk
    at = raw.rindex(b"PK\x05\x06")
    pointer = b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    start = raw.find(b"PK\x06\x07")
    raw = raw[: start if start >= 0 else at] + pointer + raw[at:]
    (tmp_path / "a.ckpt").write_bytes(raw)
    assert "have changed" in (damage_of(tmp_path / "a.ckpt") or "")
    with pytest.raises(DataError, match=r"a\.ckpt: cannot be read"):
        plain_tensors(tmp_path / "a.ckpt")
