"""Names of columns that PyTables has pickled, read without an unpickler's powers.

`values_block_0_kind` of a table of pandas is a pickled list of strings. Even an unpickler that finds no class can be
made to fill the memory: a list of lists that are the same list, a place in its memo far beyond the end, a length that
is not there. So only instructions that make a list of strings and whole numbers are let through.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, NoReturn

_LISTS = ("MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1")
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")
_ALLOWED = frozenset((*_LISTS, *_TEXTS, *_NUMBERS, *_MEMO, "MEMOIZE", "PROTO", "FRAME", "STOP"))
_ONE_AT_MOST = ("EMPTY_LIST", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


def unpickled_names(pickled: bytes) -> list[str]:
    """The strings of a pickled list of strings or whole numbers.

    Raises:
        ValueError: anything else is in it, or it is damaged.
    """
    containers = 0
    try:
        for instruction, argument, _ in pickletools.genops(pickled):
            if instruction.name not in _ALLOWED:
                raise ValueError(
                    f"it holds the instruction {instruction.name}{_named(argument)}; a list of strings does not"
                )
            if instruction.name in _MEMO and not 0 <= int(argument) <= len(pickled):
                raise ValueError("it remembers more than it holds")
            containers += instruction.name in _ONE_AT_MOST
            if containers > 1:
                raise ValueError("it holds a list in a list")
        names = _StringsOnly(io.BytesIO(pickled), encoding="utf-8").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | int) for name in names):
        raise ValueError(f"it is a {type(names).__name__} of other things than strings")
    return [str(name) for name in names]


def _named(argument: Any) -> str:
    return "" if argument is None else f" {str(argument).replace(' ', '.')!r:.60}"


class _StringsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it holds {module}.{name}; a list of strings needs no class")
