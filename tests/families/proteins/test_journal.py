from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.journal import JOURNAL, JournaledFiles

NAMES = ("a.bin", "b.bin")


@pytest.fixture
def begun(tmp_path):
    """Two moments were noted, and something was written behind them when the process was killed."""
    with JournaledFiles(tmp_path / "work", NAMES, {"n": 1}) as files:
        for part in (b"one", b"two"):
            files.append("a.bin", part)
            files.append("b.bin", part * 2)
            files.commit({"part": part.decode()})
        files.append("a.bin", b"lost")
    return tmp_path / "work"


def contents(folder):
    return [(folder / name).read_bytes() for name in NAMES]


def test_files_are_cut_to_the_last_moment_and_go_on_from_there(begun):
    with JournaledFiles(begun, NAMES, {"n": 1}) as files:
        assert files.state == {"part": "two"}
        assert contents(begun) == [b"onetwo", b"oneonetwotwo"]
        files.append("a.bin", b"three")
        files.commit({"part": "three"})
    with JournaledFiles(begun, NAMES, {"n": 1}) as files:
        assert files.state == {"part": "three"}
    assert contents(begun)[0] == b"onetwothree"


def test_a_moment_that_a_file_does_not_reach_is_not_taken(begun):
    (begun / "b.bin").write_bytes(b"oneone!")
    with JournaledFiles(begun, NAMES, {"n": 1}) as files:
        assert files.state == {"part": "one"}
    assert contents(begun) == [b"one", b"oneone"]


def test_the_line_that_was_being_written_does_not_count(begun):
    journal = begun / JOURNAL
    journal.write_text(journal.read_text()[:-9])
    with JournaledFiles(begun, NAMES, {"n": 1}) as files:
        assert files.state == {"part": "one"}


def test_other_settings_begin_anew(begun):
    with JournaledFiles(begun, NAMES, {"n": 2}) as files:
        assert files.state is None
        assert files.outdated
        assert contents(begun) == [b"", b""]
        files.append("a.bin", b"x")
        files.commit({"part": "x"})
    with JournaledFiles(begun, NAMES, {"n": 2}) as files:
        assert (files.state, files.outdated) == ({"part": "x"}, False)


def test_files_that_were_killed_before_the_first_moment_begin_anew(tmp_path):
    with JournaledFiles(tmp_path / "work", NAMES, {"n": 1}) as files:
        files.append("a.bin", b"lost")
    with JournaledFiles(tmp_path / "work", NAMES, {"n": 1}) as files:
        assert (files.state, files.outdated) == (None, False)
        assert contents(tmp_path / "work") == [b"", b""]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ConfigurationError, match="is there already and has no journal"):
        JournaledFiles(tmp_path, NAMES, {"n": 1})
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
