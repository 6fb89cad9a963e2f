"""What a checkpoint keeps of an order, compared with what is there, in words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from stablelit.errors import ConfigurationError


def require_keys(owner: str, state: Any, names: Sequence[str]) -> None:
    """A state must be complete before any of it is taken up.

    Raises:
        ConfigurationError: something is missing; the message has it, and what is there.
    """
    there = list(state) if isinstance(state, Mapping) else []
    missing = [name for name in names if name not in there]
    if missing:
        has = ", ".join(map(str, there[:10])) or "nothing"
        kind = "" if isinstance(state, Mapping) else f" (a {type(state).__name__})"
        raise ConfigurationError(
            f"{owner}.load_state_dict: the state{kind} has no {', '.join(missing)}; it has {has}. Pass what "
            f"{owner}.state_dict() has returned, or start a new run from the checkpoint's weights."
        )


def sha1(numbers: NDArray[Any]) -> str:
    """A fingerprint of an array of ints."""
    return hashlib.sha1(numbers.tobytes()).hexdigest()


def extent(numbers: NDArray[Any]) -> list[int]:
    """How many numbers there are, the smallest and the largest: what a person can compare."""
    return [len(numbers), int(numbers.min()), int(numbers.max())]


def extents_in_words(what: str, unit: str, before: Sequence[int] | None, now: Sequence[int] | None) -> str:
    """`6 chunks of 4 to 11 samples, now there are 2 chunks of 22 to 22 samples`, where both are known."""
    told = [_told(what, unit, numbers) for numbers in (before, now)]
    if told[0] == told[1]:
        return f"{told[0]}, now there are as many of other sizes or in another order"
    return f"{told[0]}, now there are {told[1]}"


def _told(what: str, unit: str, numbers: Sequence[int] | None) -> str:
    if not numbers:
        return f"other {what}"
    return f"{numbers[0]} {what} of {numbers[1]} to {numbers[2]} {unit}"
