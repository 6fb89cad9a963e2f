from __future__ import annotations

import io
import os
import sys

import pytest

from stablelit.run.streams import ForgivingStream, forgiving_streams


@pytest.fixture
def broken():
    """A text stream whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8", buffering=1) as stream:
        yield stream


def test_a_stream_whose_reader_has_gone_takes_what_is_written_in_silence(broken):
    stream = ForgivingStream(broken)
    stream.write("a line\n")
    stream.writelines(["another\n", "third\n"])
    stream.flush()
    assert isinstance(stream.broken, BrokenPipeError)
    # what goes to the descriptor by another way finds /dev/null
    os.write(broken.fileno(), b"from C")
    broken.write("the interpreter's last words")


def test_a_stream_that_is_listened_to_is_as_it_was():
    under = io.StringIO()
    stream = ForgivingStream(under)
    assert stream.write("text") == 4
    assert under.getvalue() == "text"
    assert stream.broken is None
    assert stream.closed is False


def test_streams_are_given_back_and_the_loss_is_told(monkeypatch, broken):
    told = io.StringIO()
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", told)
    with forgiving_streams():
        print("to nobody")
    assert sys.stdout is broken
    assert told.getvalue() == "Standard output could not be written (Broken pipe); the run went on without it.\n"
