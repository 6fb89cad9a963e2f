"""Has a family prepare its data: a file or folder of the user's in, a form that trains fast out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.run.annotations import complaint, evaluated
from stablelit.run.command_line import CommandLine
from stablelit.run.environment import quiet_libraries
from stablelit.run.table import print_results, shown_path, told

PREPARATIONS = {"neutrinos": "stablelit.families.neutrinos.preparation:prepare"}
"""Where each family's preparation is: a function of `path`, `output` and what it likes, which returns what it did."""


def prepare(argv: Sequence[str]) -> dict[str, Any]:
    """Reads a family's name and the arguments of its preparation (`key=value`), runs it, and says what it did.

    Raises:
        ConfigurationError: no family or an unknown one, an unknown argument, one that is missing or of a wrong type.
    """
    quiet_libraries()
    line = CommandLine.parse(argv)
    names = [word for word in line.overrides if "=" not in word]
    if len(names) != 1 or names[0] not in PREPARATIONS:
        asked = " ".join(names)
        raise ConfigurationError(
            f"prepare: {f'{asked!r} has no preparation' if names else 'of what?'} {did_you_mean(asked, PREPARATIONS)} "
            f"Allowed: python -m stablelit.prepare FAMILY path=... output=..., FAMILY one of {', '.join(PREPARATIONS)}."
        )
    parsed = OverridesParser.create().parse_overrides([word for word in line.overrides if "=" in word])
    values = {override.key_or_group: override.value() for override in parsed}
    target = _target(names[0])
    _check_arguments(names[0], target, values)
    done = dict(target(**values))
    output = Path(done.pop("output", values["output"]))
    print_results([], {"prepared": shown_path(output), **told(done)})
    return {"output": str(output), **done}


def _target(name: str) -> Callable[..., Mapping[str, Any]]:
    module, _, function = PREPARATIONS[name].partition(":")
    found: Callable[..., Mapping[str, Any]] = getattr(importlib.import_module(module), function)
    return found


def _check_arguments(name: str, target: Callable[..., Any], values: Mapping[str, Any]) -> None:
    known = inspect.signature(target).parameters
    for key, value in values.items():
        if key not in known:
            raise ConfigurationError(
                f"prepare {name}: unknown argument {key}={value!r}. {did_you_mean(key, known)} It takes: "
                f"{', '.join(known)}."
            )
        wrong = complaint(value, evaluated(known[key], target))
        if wrong:
            raise ConfigurationError(f"prepare {name}: {key}={value!r}: {' '.join(wrong)}".rstrip())
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in values]
    if missing:
        raise ConfigurationError(f"prepare {name}: give {missing[0]}=... It takes: {', '.join(known)}.")
