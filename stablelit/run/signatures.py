"""Whether the arguments that a configuration gives a class or function are those that its signature takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stablelit.errors import did_you_mean
from stablelit.run.annotations import UNKNOWN, complaint, describe, evaluated
from stablelit.run.problems import NO_VALUE, Problem

_NAMES_SHOWN = 12
_P = inspect.Parameter


def argument_problems(
    target: Callable[..., Any],
    named: Mapping[str, object],
    listed: Sequence[object] = (),
    *,
    key: str = "",
    provided: Collection[str] = (),
    partial: bool = False,
) -> Iterator[Problem]:
    """Binds arguments to a signature without calling anything.

    Args:
        target: the class or function.
        named: the arguments by name, `UNKNOWN` where a value is not known yet.
        listed: the positional arguments (Hydra's `_args_`).
        key: where in the configuration they are.
        provided: names of arguments that are added later.
        partial: the call is completed later, so that nothing is missing yet.

    Yields:
        Unknown, doubled, superfluous and missing arguments, and values that are not what the annotation says.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # written in C without a signature: only calling it can tell
    owner = getattr(target, "__qualname__", str(target))
    prefix = f"{key}." if key else ""
    places = [p for p in parameters.values() if p.kind in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)]
    names = {n: p for n, p in parameters.items() if p.kind in (_P.KEYWORD_ONLY, _P.POSITIONAL_OR_KEYWORD)}
    any_place = next((p for p in parameters.values() if p.kind is _P.VAR_POSITIONAL), None)
    any_name = any(p.kind is _P.VAR_KEYWORD for p in parameters.values())

    if len(listed) > len(places) and any_place is None:
        what = f"{len(listed)} positional arguments, where {owner} takes {len(places)} at most"
        yield Problem(f"{prefix}_args_", list(listed), what, _takes(names))
    for i, value in enumerate(listed):
        parameter = places[i] if i < len(places) else any_place
        if parameter is not None:
            yield from _value_problems(f"{prefix}_args_[{i}]", value, target, parameter)

    by_place = {p.name for p in places[: len(listed)]}
    for name, value in named.items():
        if name in names and name in by_place:
            what = f"{owner} gets {name!r} twice: here and in _args_"
            yield Problem(f"{prefix}{name}", value, what, "Leave one of them out.")
        elif name in names:
            yield from _value_problems(f"{prefix}{name}", value, target, names[name])
        elif not any_name:
            remedy = f"{did_you_mean(name, names, most=2)} {_takes(names)}".strip()
            yield Problem(f"{prefix}{name}", value, f"{owner} has no argument {name!r}", remedy)

    if not partial:
        bound = by_place.union(named, provided)
        for name, parameter in {p.name: p for p in [*places, *names.values()]}.items():
            if parameter.default is _P.empty and name not in bound:
                annotation = evaluated(parameter, target)
                kind = "value" if annotation is _P.empty else describe(annotation)
                # Hydra's overrides do not reach into lists
                remedy = f"Write {name}: <{kind}> there." if "[" in key else f"Give it as +{prefix}{name}=<{kind}>."
                yield Problem(f"{prefix}{name}", NO_VALUE, f"missing, and {owner} requires it", remedy)


def _value_problems(
    key: str, value: object, target: Callable[..., Any], parameter: inspect.Parameter
) -> Iterator[Problem]:
    if value is not UNKNOWN:
        wrong = complaint(value, evaluated(parameter, target), parameter.default)
        if wrong is not None:
            yield Problem(key, value, *wrong)


def _takes(names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return "It takes no arguments by name."
    more = f" and {len(listed) - _NAMES_SHOWN} more" if len(listed) > _NAMES_SHOWN else ""
    return f"It takes: {', '.join(listed[:_NAMES_SHOWN])}{more}."
