"""Arguments of a door that are handed on to a function: read from `key=value`, held against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.run.annotations import complaint, evaluated
from stablelit.run.command_line import key_of


def values_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of `key=value` by key, as Hydra reads them."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: override.value() for override in parsed}


def own_values(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What a door takes itself, by key, and what overrides the run's configuration: a key with a dot in it.

    >>> own_values(["n=10", "model.x=1"])
    ({'n': 10}, ['model.x=1'])
    """
    of_config = [o for o in overrides if "." in key_of(o) or key_of(o) == "allow_targets"]
    return values_of([o for o in overrides if o not in of_config]), of_config


def check_arguments(
    door: str,
    target: Callable[..., Any],
    values: Mapping[str, Any],
    taker: str,
    skip: int = 0,
    more: Sequence[str] = (),
) -> None:
    """Holds values against the parameters of `target`.

    Args:
        door: who asks, for messages.
        target: a function.
        values: by name.
        taker: who takes them, for messages.
        skip: so many first parameters of `target` are given otherwise.
        more: names that the door takes itself, for messages.

    Raises:
        ConfigurationError: an unknown name (near ones are given), or a value of another type.
    """
    parameters = inspect.signature(target).parameters
    known = list(parameters)[skip:]
    for name, value in values.items():
        if name not in known:
            takes = [*more, *known]
            raise ConfigurationError(
                f"{door}: unknown argument {name}={value!r}. {did_you_mean(name, takes)} "
                f"{taker} takes: {', '.join(takes)}."
            )
        wrong = complaint(value, evaluated(parameters[name], target))
        if wrong:
            raise ConfigurationError(f"{door}: {name}={value!r}: {' '.join(wrong)}".rstrip())
