"""Whether a value from a configuration can be what a signature's annotation asks for.

The answer is yes, no or unknown, and only a plain no becomes a complaint: annotations of other people's code are often
loose, and a false alarm costs more than a miss that the constructor catches later.
"""

from __future__ import annotations

import builtins
import collections.abc as abc
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, Union

from stablelit.errors import did_you_mean

UNKNOWN: Final = type("_Unknown", (), {"__repr__": lambda self: "<unknown>"})()
"""Stands for a value that is not known yet: a nested target, an interpolation that resolves later."""

_CONCRETE = (list, tuple, set, frozenset)
_ABSTRACT = (abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Set, abc.MutableSet)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_ARRAYS = ("torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray")


def accepts(value: object, annotation: Any) -> bool | None:
    """Whether `value` fits `annotation`; None where that cannot be said.

    An int is a float, a list is a tuple or a set, text is a path, 0 and 1 are bools; a bool is no number.
    """
    if value is UNKNOWN or annotation is Any or annotation is object:
        return True
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is Union or origin is types.UnionType:
        return _any_of(accepts(value, member) for member in args)
    if origin is Literal:
        return _in_choices(value, args)
    if origin is Annotated:
        return accepts(value, args[0])
    if annotation is None or annotation is types.NoneType:
        return value is None
    if annotation in (bool, int, float, complex, str):
        return _fits_scalar(value, annotation)
    if inspect.isclass(annotation) and issubclass(annotation, PurePath):
        return isinstance(value, str | PurePath)
    if origin in _MAPPINGS:
        if not isinstance(value, dict):
            return False
        return _all_of(accepts(element, args[1]) for element in value.values()) if len(args) == 2 else True
    if origin in _CONCRETE or origin in _ABSTRACT:
        return _fits_collection(value, origin, args)
    return False if _is_array(annotation) else None


def _is_array(annotation: Any) -> bool:
    """YAML has no tensors, so that `float | Tensor` is a float here."""
    return inspect.isclass(annotation) and f"{annotation.__module__}.{annotation.__qualname__}" in _ARRAYS


def _fits_scalar(value: object, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
    if kind is str:
        return isinstance(value, str)
    allowed = {int: (int,), float: (int, float), complex: (int, float, complex)}[kind]
    return isinstance(value, allowed) and not isinstance(value, bool)


def _in_choices(value: object, choices: tuple[Any, ...]) -> bool | None:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return True
    # Literal of enum members: Hydra hands over their names, and what the class does with them is its own affair
    return False if all(isinstance(choice, str | int | float | bool | None) for choice in choices) else None


def _fits_collection(value: object, origin: Any, args: tuple[Any, ...]) -> bool | None:
    if origin in _ABSTRACT and isinstance(value, str | dict):
        return None  # text is a sequence of characters and a dict iterates over its keys: odd, but not wrong
    if not isinstance(value, list | tuple | set | frozenset):
        return False
    if origin is tuple and len(args) >= 2 and args[-1] is not Ellipsis:
        return len(value) == len(args) and _all_of(accepts(v, a) for v, a in zip(value, args, strict=True))
    return _all_of(accepts(element, args[0]) for element in value) if args else True


def _any_of(verdicts: Iterable[bool | None]) -> bool | None:
    seen = set(verdicts)
    return True if True in seen else None if None in seen else False


def _all_of(verdicts: Iterable[bool | None]) -> bool | None:
    seen = set(verdicts)
    return False if False in seen else None if None in seen else True


# --- words ------------------------------------------------------------------------------------------------------------


def complaint(value: object, annotation: Any, default: object = inspect.Parameter.empty) -> tuple[str, str] | None:
    """What is wrong with `value`, and what to write instead; None where nothing is.

    Args:
        value: what the configuration says.
        annotation: an evaluated annotation; `inspect.Parameter.empty` where there is none.
        default: the parameter's default, which is always acceptable, whatever the annotation says.

    Returns:
        The complaint (`text, where int is meant`) and a remedy, which may be empty.
    """
    unannotated = annotation is inspect.Parameter.empty
    verdict = None if unannotated else accepts(value, annotation)
    if verdict:
        return None
    if default is not inspect.Parameter.empty:
        # `x: int = None` and `lr: float = "auto"`: an annotation that its own default breaks says too little
        if verdict is False and accepts(default, annotation) is False and type(value) is type(default):
            return None
        if verdict is None:
            return _clashes_with_default(value, default)
    if verdict is None:
        return None
    choices = [choice for choice in _choices(annotation) if isinstance(choice, str)]
    near = did_you_mean(value, choices) if isinstance(value, str) else ""
    if _only_choices(annotation):
        return f"not one of {describe(annotation)}", near
    return f"{_kind(value, annotation)}, where {describe(annotation)} is meant", near or _remedy(value, annotation)


def _clashes_with_default(value: object, default: object) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return None
    # "auto" is the one word that libraries commonly take in place of a number
    if isinstance(default, float) and value != "auto":
        return f"text, where a number such as {default!r} is meant", _remedy(value, float)
    if isinstance(default, bool) and value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return f"text, where a bool such as {str(default).lower()} is meant", _remedy(value, bool)
    return None


def _kind(value: object, annotation: Any) -> str:
    if value is None:
        return "no value"
    if isinstance(value, bool):
        return "a bool"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list | tuple):
        lengths = [len(args) for args in _fixed_lengths(annotation)]
        if lengths and len(value) not in lengths:
            return f"a list of {len(value)}"
        return f"the list {value!r}" if len(value) <= 8 else "a list"
    return {int: "an int", float: "a float"}.get(type(value), f"a {type(value).__name__}")


def _remedy(value: object, annotation: Any) -> str:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("none", "null", "~") and accepts(None, annotation):
            return "Write null, without quotes, for no value."
        if word in ("true", "false", "yes", "no", "on", "off") and accepts(True, annotation):
            return f"Write {'true' if word in ('true', 'yes', 'on') else 'false'}, without quotes."
        number = _number_in(word)
        if number is not None and accepts(number, annotation):
            if "e" in word and "." not in word and math.isfinite(number):
                mantissa, _, exponent = word.partition("e")
                return f"Write {mantissa}.0e{exponent}, without quotes: plain YAML reads {value} as text."
            written = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(str(number), value.strip())
            return f"Write {written}, without quotes."
    elif isinstance(value, int | float) and not isinstance(value, bool) and accepts(str(value), annotation):
        return f"Put it in quotes: '{value}' (on the command line \"'{value}'\")."
    if isinstance(value, float) and value.is_integer() and accepts(int(value), annotation):
        return f"Write {int(value)}."
    if value is not None and not isinstance(value, list | tuple | dict) and accepts([value], annotation):
        return f"Write a list: [{value}]."
    return ""


def _number_in(word: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return None


def describe(annotation: Any) -> str:
    """An annotation in words: `int or null`, `'min', 'max'`, `list[str]`."""
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is Union or origin is types.UnionType:
        members = [describe(member) for member in args if not _is_array(member)]
        ordered = [m for m in dict.fromkeys(members) if m != "null"] + ["null"] * ("null" in members)
        joint = ", " if _only_choices(annotation) else " or "
        return joint.join(ordered)
    if origin is Literal:
        return ", ".join("null" if c is None else repr(c) for c in args)
    if origin is Annotated:
        return describe(args[0])
    if annotation is None or annotation is types.NoneType:
        return "null"
    if inspect.isclass(origin):
        if not args:
            return str(origin.__name__)
        return f"{origin.__name__}[{', '.join('...' if a is Ellipsis else describe(a) for a in args)}]"
    return str(annotation).replace("typing.", "")


def _members(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        return tuple(inner for member in typing.get_args(annotation) for inner in _members(member))
    return _members(typing.get_args(annotation)[0]) if origin is Annotated else (annotation,)


def _choices(annotation: Any) -> list[Any]:
    literals = [m for m in _members(annotation) if typing.get_origin(m) is Literal]
    return [choice for literal in literals for choice in typing.get_args(literal)]


def _only_choices(annotation: Any) -> bool:
    rest = [m for m in _members(annotation) if m is not types.NoneType]
    return bool(rest) and all(typing.get_origin(m) is Literal for m in rest)


def _fixed_lengths(annotation: Any) -> list[tuple[Any, ...]]:
    tuples = [typing.get_args(m) for m in _members(annotation) if typing.get_origin(m) is tuple]
    return [args for args in tuples if len(args) >= 2 and args[-1] is not Ellipsis]


# --- annotations written as text --------------------------------------------------------------------------------------


class _Names(dict[str, Any]):
    """Stands in for what a module imports under TYPE_CHECKING only: typing's own meaning, else Any."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Any:
        if name in self._module or hasattr(builtins, name):
            raise KeyError(name)
        return getattr(typing, name, Any)


def evaluated(parameter: inspect.Parameter, owner: Callable[..., Any]) -> Any:
    """The annotation of `parameter`, with names in text looked up where it was written.

    Args:
        parameter: one of `inspect.signature(owner).parameters`.
        owner: the class or function.

    Returns:
        The annotation, or `inspect.Parameter.empty` where there is none or it cannot be evaluated.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty or inspect.isclass(annotation):
        return annotation
    module = _module_of(parameter.name, owner)
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        return typing.get_type_hints(holder, globalns=module, localns=_Names(module))[parameter.name]
    except Exception:  # evaluating somebody's text can raise anything, and then nothing is known
        return inspect.Parameter.empty


def _module_of(name: str, owner: Callable[..., Any]) -> dict[str, Any]:
    written_in = [owner, getattr(owner, "__init__", None), getattr(owner, "__new__", None)]
    for function in map(inspect.unwrap, filter(None, written_in)):
        if inspect.ismethod(function):
            function = function.__func__
        if inspect.isfunction(function) and name in function.__annotations__:
            return function.__globals__
    return {}
