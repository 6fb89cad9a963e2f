"""The errors a user can mend: each names the place, the value, what is allowed and what to do.

The doors (`python -m stablelit.train`, ...) print these without a traceback and leave with exit code 2; every other
exception is a defect of ours or of the environment and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sized

_LONGEST_VALUE = 160


class StablelitError(Exception):
    r"""Base of the errors below; what would steer a terminal stands in its message as an escape (``\x1b``)."""

    def __str__(self) -> str:
        return _visible(super().__str__())


class ConfigurationError(StablelitError, ValueError):
    """An argument, a configuration key or a combination of them that cannot work."""


class ContractError(StablelitError, TypeError):
    """A module, datamodule or batch lacks what a callback was told to find there."""


class DataError(StablelitError, ValueError):
    """Data that are not what they should be; the message names file, row and field."""


class MissingDependencyError(StablelitError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def bad_argument(owner: str, name: str, value: object, allowed: str, remedy: str = "") -> ConfigurationError:
    """The one form of a rejected argument: `Owner: name=value is not allowed; allowed: ...; remedy`."""
    tail = f" {remedy}" if remedy else ""
    return ConfigurationError(f"{owner}: {name}={_shortened(value)} is not allowed. Allowed: {allowed}.{tail}")


def _visible(text: str) -> str:
    """A name of a file, or a word in it, may hold what moves the cursor or hides what was printed before."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(value: object) -> str:
    text = repr(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    count = f" ({len(value)} in all)" if isinstance(value, Sized) and not isinstance(value, str | bytes) else ""
    return f"{' '.join(text.split())[: _LONGEST_VALUE // 2]} ...{count}"


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """`Did you mean 'a' or 'b'?`, or an empty string where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def missing_extra(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for an optional dependency that is absent."""
    return MissingDependencyError(f"{purpose} needs {package!r}. Install it with: pip install 'stablelit[{extra}]'")
