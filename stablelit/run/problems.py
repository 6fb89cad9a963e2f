"""What is wrong with a configuration: one mistake, and the error that shows all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stablelit.errors import ConfigurationError

NO_VALUE: Final = type("_NoValue", (), {"__repr__": lambda self: "<no value>"})()
"""Stands in a `Problem` for a key that the configuration does not have."""

_VALUE_WIDTH = 80


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration.

    Args:
        key: the full key, such as `callbacks.kl_cap.target` or `model.layers[0]._target_`.
        value: what the configuration says there; `NO_VALUE` where the key is absent.
        what: what is wrong with it.
        remedy: what to write instead, near names; may be empty.
    """

    key: str
    value: object
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= _VALUE_WIDTH else f"{shown[: _VALUE_WIDTH - 3]}..."
        place = self.key if self.value is NO_VALUE else f"{self.key}={shown}"
        return f"{place}: {self.what}" + (f"\n    {self.remedy}" if self.remedy else "")


def raise_on_problems(problems: Sequence[Problem]) -> None:
    """Raises one error that shows all of them.

    Raises:
        ConfigurationError: there is at least one problem.
    """
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigurationError("\n".join([f"{count} in the configuration:", *(f"  {p}" for p in problems)]))
