"""Has a family prepare its data: a file or folder of the user's in, a form that trains fast out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.run.arguments import check_arguments, values_of
from stablelit.run.command_line import CommandLine
from stablelit.run.environment import quiet_libraries
from stablelit.run.table import print_results, shown_path, told

PREPARATIONS = {
    "neutrinos": "stablelit.families.neutrinos.preparation:prepare",
    "proteins": "stablelit.families.proteins.preparation:prepare",
}
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
    values = values_of([word for word in line.overrides if "=" in word])
    target = _target(names[0])
    check_arguments(f"prepare {names[0]}", target, values, "It")
    known = inspect.signature(target).parameters
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in values]
    if missing:
        raise ConfigurationError(f"prepare {names[0]}: give {missing[0]}=... It takes: {', '.join(known)}.")
    done = dict(target(**values))
    output = Path(done.pop("output", values["output"]))
    print_results([], {"prepared": shown_path(output), **told(done)})
    return {"output": str(output), **done}


def _target(name: str) -> Callable[..., Mapping[str, Any]]:
    module, _, function = PREPARATIONS[name].partition(":")
    found: Callable[..., Mapping[str, Any]] = getattr(importlib.import_module(module), function)
    return found
