"""Of a pickle, lists of strings alone: what else it can be made to do is refused before it is done."""

from __future__ import annotations

import pickle

import pytest

from stablelit.families.jets.readers.pickled_names import unpickled_names

NAMES = ["E_0", "PX_0", "ä", "x" * 300]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_of_strings_comes_back_in_every_protocol(protocol, container):
    assert unpickled_names(pickle.dumps(container(NAMES), protocol)) == NAMES
    assert unpickled_names(pickle.dumps(container([0, 1, 300, 70_000]), protocol)) == ["0", "1", "300", "70000"]


def laughing(depth: int = 40) -> bytes:
    """A list of ten times a list of ten times a list ...: some hundred bytes, 10^40 strings."""
    held: object = ["lol"] * 10
    for _ in range(depth):
        held = [held] * 10
    return pickle.dumps(held, 2)


class Acts:
    def __reduce__(self):
        return print, ("acted",)


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps(Acts()),
        pickle.dumps([Acts()], 0),
        b"cos\nsystem\n(S'true'\ntR.",
        laughing(),
        pickle.dumps([["a"]]),
        pickle.dumps({"a": 1}),
        pickle.dumps([b"a"]),
        pickle.dumps([1.5]),
        pickle.dumps("a"),
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00.",
        b"\x80\x02(" + b"\x85" * 100_000 + b".",
        b"\x80\x02].]",
        b"\x80\x02]",
        b"I" + b"9" * 5000 + b"\n.",
        b"P1\n.",
        b"\x82\x01.",
        b"",
    ],
    ids=[
        *("class", "class-0", "system", "laughing", "list-in-list", "dict", "bytes", "float", "text"),
        *(
            "memo-far-away",
            "bytearray8",
            "text8",
            "tuples",
            "behind-the-end",
            "no-end",
            "digits",
            "persistent",
            "extension",
        ),
        "empty",
    ],
)
def test_anything_else_is_a_value_error_and_does_nothing(pickled, capsys):
    if pickled == b"\x80\x02].]":
        assert unpickled_names(pickled) == []
        return
    with pytest.raises(ValueError, match=r".+"):
        unpickled_names(pickled)
    assert capsys.readouterr().out == ""
