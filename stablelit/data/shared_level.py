"""SharedLevel: a number that the main process sets and the worker processes of a DataLoader read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.functional.schedules import check_number


class SharedLevel:
    """A float64 in [0, 1] in shared memory, for the difficulty of a data set.

    A data set is copied when a DataLoader starts its workers; a plain attribute stays there as it was at that moment,
    with ``persistent_workers`` for the whole run. What `set` writes here, every worker reads with its next sample,
    whether it was forked or spawned. Workers run ahead: a batch that is trained on was made up to
    ``num_workers * prefetch_factor`` batches ago, at the level of that time.

    A copy (`copy.deepcopy`, or a pickle that leaves the family of processes) is a level of its own.

    Args:
        value: the level before anybody sets one.

    Raises:
        ConfigurationError: not a number in [0, 1].

    Example:
        >>> level = SharedLevel()
        >>> level.set(0.25)
        >>> level.value
        0.25
    """

    def __init__(self, value: float = 1.0) -> None:
        self._shared = _in_shared_memory(torch.tensor(_checked(value), dtype=torch.float64))

    @property
    def value(self) -> float:
        """The level now."""
        return float(self._shared)

    def set(self, value: float) -> None:
        """Writes a level, for all processes.

        Raises:
            ConfigurationError: not a number in [0, 1].
        """
        self._shared.fill_(_checked(value))

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"SharedLevel({self.value:g})"

    def __getstate__(self) -> dict[str, Any]:
        # on its way to a worker torch hands on the memory itself, in any other pickle the number
        return {"shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = _in_shared_memory(state["shared"])

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedLevel:
        return SharedLevel(self.value)


def _in_shared_memory(number: Tensor) -> Tensor:
    number.share_memory_()  # type: ignore[no-untyped-call]
    return number


def _checked(value: float) -> float:
    return check_number("SharedLevel", "value", value, at_least=0.0, at_most=1.0)
