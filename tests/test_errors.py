"""Messages are shown in a terminal, and the names in them come from files."""

from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError, ContractError, DataError, MissingDependencyError


@pytest.mark.parametrize("kind", [ConfigurationError, ContractError, DataError, MissingDependencyError])
def test_what_would_steer_the_terminal_is_shown_as_an_escape(kind):
    hostile = kind("a\x1b[2K\x1b]0;title\x07.csv\r\b \x9b1m \u202e \ud800: row 3")
    assert str(hostile) == "a\\x1b[2K\\x1b]0;title\\x07.csv\\r\\x08 \\x9b1m \\u202e \\ud800: row 3"


def test_what_is_written_on_purpose_stays():
    text = "2 problems:\n  lr=\u00b10.1 \u2013 \u00e4\u5b57\tend"
    assert str(DataError(text)) == text
