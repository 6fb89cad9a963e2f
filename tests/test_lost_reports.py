from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from stablelit.lost_reports import (
    LostReportWarning,
    is_failed_write,
    lost_reports,
    remedy,
    report_may_be_lost,
    say,
    tell_of_lost,
    why,
)
from stablelit.run_files import append_line


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number), "x")


def test_the_first_loss_is_told_with_the_remedy_and_the_others_are_counted(recwarn):
    trainer = SimpleNamespace()
    for _ in range(3):
        with report_may_be_lost(trainer, "HistoryWriter", "run/history.jsonl"):
            fail(errno.ENOSPC)
    (told,) = [str(warning.message) for warning in recwarn if warning.category is LostReportWarning]
    assert told.startswith("HistoryWriter: run/history.jsonl could not be written: No space left on device.")
    assert "df -h" in told
    assert lost_reports(trainer) == ["history.jsonl of HistoryWriter: 3 writings lost (No space left on device)"]


def test_what_was_lost_more_than_once_is_told_at_the_end_once(recwarn):
    trainer = SimpleNamespace()
    tell_of_lost(trainer)
    for _ in range(2):
        with report_may_be_lost(trainer, "a", "history.jsonl"):
            fail(errno.EROFS)
    tell_of_lost(trainer)
    tell_of_lost(trainer)
    ends = [str(w.message) for w in recwarn if str(w.message).startswith("Not everything")]
    assert ends == ["Not everything of this run was kept: history.jsonl of a: 2 writings lost (Read-only file system)."]


def test_two_trainers_keep_books_of_their_own(recwarn):
    first, second = SimpleNamespace(), SimpleNamespace()
    with report_may_be_lost(first, "a", "x"):
        fail(errno.EDQUOT)
    assert lost_reports(first)
    assert not lost_reports(second)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes differ"), KeyboardInterrupt()], ids=repr)
def test_other_errors_pass(error):
    with pytest.raises(type(error)), report_may_be_lost(SimpleNamespace(), "a", "x"):
        raise error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "remount"),
        (errno.EACCES, "the right to write"),
        (errno.ENOENT, "taken the folder away"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "dmesg"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_each_reason_has_its_remedy(number, words):
    assert words in remedy(OSError(number, "x"))
    assert why(OSError(number, "x")) == os.strerror(number)


def test_what_torch_says_of_a_full_disk_is_recognised():
    import torch

    with pytest.raises((OSError, RuntimeError)) as caught, open("/dev/full", "wb", buffering=0) as full:
        torch.save(torch.zeros(100_000), full)
    assert is_failed_write(caught.value)
    assert "Free some space" in remedy(caught.value)


def test_a_reader_that_has_gone_is_a_report_that_is_lost(monkeypatch, recwarn):
    read, write = os.pipe()
    os.close(read)
    trainer = SimpleNamespace()
    stream = open(write, "w", encoding="utf-8")  # noqa: SIM115 - what is in its buffer cannot be written at its end
    monkeypatch.setattr("sys.stdout", stream)
    say(trainer, "EpochPrinter", "epoch 1")
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert lost_reports(trainer) == ["standard output of EpochPrinter: 1 writing lost (Broken pipe)"]


def test_a_line_that_does_not_fit_leaves_no_half_of_itself(tmp_path):
    import resource

    path = tmp_path / "history.jsonl"
    append_line(path, "first", "second")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_line(path, "longer than four bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append_line(path, "third")
    assert path.read_text() == "first\nsecond\nthird\n"
