"""From the dotted name of a `_target_` to the object that it names, in the order in which Hydra looks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from stablelit.errors import ConfigurationError, did_you_mean


class UnusableTarget(ConfigurationError):
    """A `_target_` that names nothing, or something a configuration may not have called."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}. {remedy}".rstrip())
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Found:
    """What a name resolves to, what it was found in, and the last part of the name."""

    thing: object
    parent: object
    last: str


def locate(path: str) -> Found:
    """Imports what is named, and nothing is called.

    Raises:
        UnusableTarget: a part that does not exist (near names given), or a module that cannot be imported.
    """
    parts = path.split(".")
    thing: object = _import(parts[0], parts[0], ())
    parent: object = thing
    for i, part in enumerate(parts[1:], start=1):
        parent = thing
        try:
            thing = getattr(parent, part)
            continue
        except AttributeError:
            if not isinstance(parent, ModuleType):
                raise UnusableTarget(f"{'.'.join(parts[:i])!r} has no {part!r}", _near(part, dir(parent))) from None
        except (Exception, SystemExit) as error:
            raise _failed(".".join(parts[: i + 1]), error) from error
        thing = _import(".".join(parts[: i + 1]), part, _names_in(parent))
    return Found(thing, parent, parts[-1])


def _import(module: str, part: str, siblings: Iterable[str]) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        parent = module.rpartition(".")[0]
        # a missing module further down is a fault of the module that wants it, not a misspelt target
        if error.name != module and not (parent and f"{parent!r} is not a package" in str(error)):
            raise _failed(module, error) from error
        if parent:
            raise UnusableTarget(f"{parent!r} has no {part!r}", _near(part, siblings)) from None
        known = {name.partition(".")[0] for name in sys.modules} | {m.name for m in pkgutil.iter_modules()}
        near = _near(part, known - sys.stdlib_module_names)
        own = "A module of your own must be on the import path: start from its folder, or install it"
        raise UnusableTarget(f"there is no module {module!r}", f"{near} {own}".strip()) from None
    except (Exception, SystemExit) as error:
        raise _failed(module, error) from error


def _failed(name: str, error: BaseException) -> UnusableTarget:
    if isinstance(error, ConfigurationError | ImportError) and type(error).__module__.startswith("stablelit."):
        return UnusableTarget(str(error).rstrip("."))
    return UnusableTarget(f"importing {name!r} failed: {type(error).__name__}: {error}")


def _names_in(module: ModuleType) -> list[str]:
    inside = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", ()))]
    return sorted({name for name in [*dir(module), *inside] if not name.startswith("__")})


def _near(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, sorted(known))


def full_name(thing: object) -> str:
    """Module and qualified name of a class or function: `torch.optim.adamw.AdamW`."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(name, str):
        return f"{type(thing).__module__}.{type(thing).__qualname__}"
    return f"{module}.{name}" if module else name


def described(found: Found) -> str:
    """What it is, in words: `the class torch.optim.adamw.AdamW`."""
    thing = found.thing
    if isinstance(thing, ModuleType):
        return f"the module {thing.__name__}"
    if inspect.isclass(thing):
        return f"the class {full_name(thing)}"
    if inspect.isclass(found.parent):
        return f"the method {full_name(found.parent)}.{found.last}"
    if inspect.isroutine(thing):
        return f"the function {full_name(thing)}"
    return f"an object of type {full_name(type(thing))}"
