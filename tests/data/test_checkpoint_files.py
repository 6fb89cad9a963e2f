from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from pathlib import Path

import pytest
import torch

from stablelit.data import checkpoint_files
from stablelit.data.checkpoint_files import (
    alternatives,
    damage_of,
    remove_leftovers,
    require_whole,
    step_of,
    whole_beside,
    write_checkpoint,
)
from stablelit.errors import ConfigurationError


def checkpoint(step: int) -> dict:
    return {"state_dict": {"w": torch.full((300,), float(step))}, "global_step": step, "epoch": 0}


def step_in(path: Path) -> int:
    loaded = torch.load(path, weights_only=True)
    assert loaded["state_dict"]["w"].unique().tolist() == [float(loaded["global_step"])]
    return loaded["global_step"]


@pytest.fixture
def last(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(checkpoint(1), path)
    return path


def test_what_is_written_is_read_and_nothing_else_is_left(last):
    write_checkpoint(checkpoint(2), last)
    assert step_in(last) == step_of(last) == 2
    assert damage_of(last) is None
    assert [p.name for p in last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_process_that_dies_at_any_call_leaves_a_whole_file_with_its_name(tmp_path):
    """The process ends at its first, second, ... call to the disk; what it leaves is the old file or the new one."""
    steps = []
    for call in range(20):
        last, previous = tmp_path / str(call) / "last.ckpt", tmp_path / str(call) / "previous.ckpt"
        write_checkpoint(checkpoint(1), last)
        pid = os.fork()
        if pid == 0:
            _die_at(call)
            write_checkpoint(checkpoint(2), last, previous)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        assert damage_of(last) is None
        steps.append(step_in(last))
        assert not previous.exists() or step_in(previous) == 1
        remove_leftovers(last.parent)
        assert {p.name for p in last.parent.iterdir()} <= {"last.ckpt", "previous.ckpt"}
        if not died:
            break
    assert not died
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}
    assert len(steps) >= 6


def _die_at(call: int) -> None:
    count = iter(range(1000))

    def dying(function):
        def called(*args, **kwargs):
            if next(count) == call:
                os._exit(9)
            return function(*args, **kwargs)

        return called

    for name in ("fsync", "link", "replace", "open"):
        setattr(os, name, dying(getattr(os, name)))
    torch_save = torch.save

    def half_a_save(content, file):
        if next(count) == call:
            file.write(b"PK\x03\x04 half")
            file.flush()
            os._exit(9)
        torch_save(content, file)

    torch.save = half_a_save


def test_a_full_disk_is_told_and_the_old_file_is_as_it_was(last, monkeypatch):
    def no_space(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_files.os, "fsync", no_space)
    with pytest.raises(OSError, match=r"No space left on device: '.*last\.ckpt'"):
        write_checkpoint(checkpoint(2), last, last.with_name("previous.ckpt"))
    assert step_in(last) == 1
    assert [p.name for p in last.parent.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_inside_the_write_is_told(last):
    """The limit on a file's size is the kernel's own; torch's writer turns its error into one without a reason."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_checkpoint({"w": torch.zeros(100_000)}, last)
        except OSError as error:
            os._exit(7 if (error.errno, error.filename) == (errno.EFBIG, str(last)) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert step_in(last) == 1
    assert [p.name for p in last.parent.iterdir()] == ["last.ckpt"]


def test_the_file_that_is_replaced_is_kept_under_the_other_name(last):
    previous = last.with_name("previous.ckpt")
    for step in (2, 3):
        write_checkpoint(checkpoint(step), last, previous)
        assert (step_in(last), step_in(previous)) == (step, step - 1)


def test_a_file_system_without_links_keeps_it_too(last, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(checkpoint_files.os, "link", no_links)
    previous = last.with_name("previous.ckpt")
    write_checkpoint(checkpoint(2), last, previous)
    assert (step_in(last), step_in(previous)) == (2, 1)


def test_a_damaged_file_does_not_take_the_place_of_a_whole_previous_one(last):
    previous = last.with_name("previous.ckpt")
    write_checkpoint(checkpoint(2), last, previous)
    last.write_bytes(last.read_bytes()[:-300])
    write_checkpoint(checkpoint(3), last, previous)
    assert (step_in(last), step_in(previous)) == (3, 1)


def test_every_flipped_bit_of_the_tensors_and_their_description_is_found(last):
    """Of which `torch.load` reads those in the tensors without a word."""
    content = last.read_bytes()
    silent = 0
    for place in range(60, len(content) - 600, 37):
        flipped = bytearray(content)
        flipped[place] ^= 1
        last.write_bytes(flipped)
        found = damage_of(last)
        try:
            same = step_in(last) == 1
            silent += found is not None
        except Exception:
            same = False
        assert same or found is not None, place
    assert silent


def test_a_file_cut_anywhere_is_found(last):
    content = last.read_bytes()
    for length in (0, 1, 3, 4, 100, len(content) // 2, len(content) - 1):
        last.write_bytes(content[:length])
        assert damage_of(last) is not None, length
    last.write_bytes(b"")
    assert damage_of(last) == "it is empty"


@pytest.mark.parametrize("content", [b"nonsense" * 50, b"PK\x03\x04" + b"\x00" * 500, b"\x00" * 4096])
def test_garbage_is_found(content, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(content)
    assert damage_of(tmp_path / "x.ckpt") is not None


def test_what_is_not_there_and_what_is_no_file_is_told(tmp_path):
    assert "cannot be opened" in damage_of(tmp_path / "x.ckpt")
    assert damage_of(tmp_path) == "it is not a file"


def test_a_file_in_torchs_old_format_is_whole(tmp_path):
    torch.save(checkpoint(4), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert damage_of(tmp_path / "old.ckpt") is None
    content = (tmp_path / "old.ckpt").read_bytes()
    (tmp_path / "old.ckpt").write_bytes(content[:-200])
    assert damage_of(tmp_path / "old.ckpt") is not None


def test_a_file_is_looked_at_once_and_again_when_it_has_changed(last, monkeypatch):
    looks = []
    real = checkpoint_files._damage
    monkeypatch.setattr(checkpoint_files, "_damage", lambda path: looks.append(path) or real(path))
    last.write_bytes(last.read_bytes())
    assert damage_of(last) is damage_of(last) is None
    assert len(looks) == 1
    last.write_bytes(last.read_bytes()[:-9])
    assert damage_of(last) is not None
    assert len(looks) == 2


def test_the_whole_ones_beside_a_damaged_one_are_named_the_furthest_first(last):
    for step in (5, 20):
        write_checkpoint(checkpoint(step), last.with_name(f"step_{step}.ckpt"))
    broken = last.with_name("broken.ckpt")
    broken.write_bytes(last.read_bytes()[:-100])
    last.write_bytes(b"")
    assert [step for step, _ in whole_beside(last)] == [20, 5]
    with pytest.raises(ConfigurationError, match=r"last\.ckpt is damaged: it is empty\. Whole beside it: .*step_20"):
        require_whole(last)


def test_where_nothing_is_whole_that_is_said(tmp_path):
    assert alternatives(tmp_path / "last.ckpt") == "No whole checkpoint lies beside it."


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    host = checkpoint_files._host()
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    gone = [tmp_path / f".last.ckpt.{host}-{dead}.part", tmp_path / ".last.ckpt.elsewhere-1.part"]
    kept = [tmp_path / f".last.ckpt.{host}-{os.getppid()}.part", tmp_path / ".last.ckpt.elsewhere-2.part"]
    kept += [tmp_path / ".of-somebody-else.part", tmp_path / "mine.part"]
    for path in (*gone, *kept):
        path.touch()
    os.utime(gone[1], (0, 0))
    assert sorted(remove_leftovers(tmp_path)) == sorted(gone)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_host_name_with_dots_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7.cluster.example")
    leftover = tmp_path / f".last.ckpt.{checkpoint_files._host()}-{os.getpid()}.part"
    leftover.touch()
    assert remove_leftovers(tmp_path) == [leftover]
