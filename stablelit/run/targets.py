"""Which Python object a `_target_` names, and whether a configuration may have it called.

An allow-list of packages does not hold: `torch.utils.collect_env.run` runs a shell command, and a module inside an
allowed package re-exports whatever it imported. So what counts is the object a name resolves to: a class that derives
from one of the bases in `ALLOWED_BASES` and does not read pickles or run text, or one of stablelit's own: a class of
its rooms, or a function of those that touch no file (`_ROOMS_OF_FUNCTIONS`). A function that writes wherever its
argument says, or a door, whose argument could allow targets, would lead round the check.

Resolving a name imports modules, and importing executes their code. That cannot be limited to installed packages, for a
user's own model usually lies in the working directory. What holds instead: a configuration can only name modules that
are already on this machine's import path; the standard library (which has no part of a training run to offer, but
modules that act when imported), `pkg.__main__` and other double-underscore names are refused unimported; and nothing
that resolves is called before it has been allowed. This guards against a configuration that was copied from somewhere,
not against Python files that were.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import ModuleType

from stablelit.errors import ConfigurationError, did_you_mean

_LIGHTNING_BASES = (
    ("callbacks", "Callback"),
    ("loggers", "Logger"),
    ("core", "LightningModule"),
    ("core", "LightningDataModule"),
    ("trainer.trainer", "Trainer"),
    ("strategies", "Strategy"),
    ("accelerators", "Accelerator"),
    ("profilers", "Profiler"),
    ("plugins", "LayerSync"),
)
_FABRIC_BASES = (
    ("plugins.precision.precision", "Precision"),
    ("plugins.environments", "ClusterEnvironment"),
    ("plugins.io.checkpoint_io", "CheckpointIO"),
)
ALLOWED_BASES: tuple[tuple[str, str], ...] = (
    ("torch.nn", "Module"),
    ("torch.optim", "Optimizer"),
    ("torch.optim.lr_scheduler", "LRScheduler"),
    ("torch.optim.lr_scheduler", "ReduceLROnPlateau"),
    ("torch.utils.data", "Dataset"),
    ("torch.utils.data", "Sampler"),
    ("torch.utils.data", "DataLoader"),
    ("torchmetrics", "Metric"),
    *(
        (f"{package}.{module}", name)
        for package in ("lightning.pytorch", "pytorch_lightning")
        for module, name in _LIGHTNING_BASES
    ),
    *(
        (f"{package}.{module}", name)
        for package in ("lightning.fabric", "lightning_fabric")
        for module, name in _FABRIC_BASES
    ),
)
# arguments of the classes above that YAML cannot write down; constructing one does nothing but hold values
_VALUE_CLASSES: tuple[tuple[str, str], ...] = (
    ("datetime", "timedelta"),
    ("pathlib", "Path"),
    ("torch", "device"),
    ("lightning.pytorch.callbacks.progress.rich_progress", "RichProgressBarTheme"),
    ("pytorch_lightning.callbacks.progress.rich_progress", "RichProgressBarTheme"),
)
# modules by descent that compile text they are given (`input_args="x: __import__('os').system('...')"`), or fetch code
_RUNS_TEXT = (
    ("torch_geometric.nn", "Sequential"),
    ("torch.fx", "GraphModule"),
    ("torch.jit", "ScriptModule"),
    ("torch.distributed.nn", "RemoteModule"),
)
# data sets by descent that unpickle what lies in a folder (`torch.load(..., weights_only=False)`), fetch files, or open
# whatever they are told to. Somebody's own class that derives from one of them is their own code, and allowed
_UNPICKLING_ROOMS = (
    *(f"torch_geometric.{room}" for room in ("data", "datasets", "llm")),
    *(f"{package}.datasets" for package in ("torchvision", "torchaudio", "torchtext")),
    *(
        "torch.utils.data.datapipes",
        "lightning.pytorch.demos.mnist_datamodule",
        "pytorch_lightning.demos.mnist_datamodule",
    ),
)
_STANDARD_LIBRARY_VALUES = ("datetime.timedelta", "pathlib.Path")

# of stablelit, where classes may be constructed; not its doors and builders, which take configurations or dotted names
_ROOMS_OF_CLASSES = tuple(
    f"stablelit.{name}"
    for name in (
        *("callbacks", "contracts", "data", "doctor", "families", "findings", "functional", "nn", "optim"),
        "run.last_checkpoint",
        "run.metrics_csv",
    )
)
_ROOMS_OF_FUNCTIONS = ("stablelit.functional", "stablelit.nn", "stablelit.optim")
# constructing one opens files for writing
_WRITING_ROOMS = ("stablelit.families.proteins.journal",)


class UnusableTarget(ConfigurationError):
    """A `_target_` that names nothing, or something a configuration may not have called."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}. {remedy}".rstrip())
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class _Found:
    thing: object
    parent: object
    last: str


def resolve_target(path: object, allow_targets: Collection[str] = ()) -> object:
    """The object that `path` names, if a configuration may have it called.

    Args:
        path: a dotted path such as ``"torch.optim.AdamW"``.
        allow_targets: names allowed beside the allow-list, either as written in `_target_` or as they resolve.

    Returns:
        The class or function.

    Raises:
        UnusableTarget: not a dotted path, a part that does not exist (near names given), a module that cannot be
            imported, or an object that is not on the allow-list.
    """
    if not isinstance(path, str) or "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise UnusableTarget("not a dotted path to a class or function", "Write it as 'package.module.Name'")
    if path not in allow_targets:
        _refuse_unimported(path)
    found = _locate(path)
    name = full_name(found.thing)
    if not callable(found.thing):
        raise UnusableTarget(f"resolves to {_describe(found)}, which cannot be called")
    if path not in allow_targets and name not in allow_targets and not _is_allowed(found):
        raise UnusableTarget(f"resolves to {_describe(found)}, {_why_refused(found)}", _how_to_allow(path))
    return found.thing


def full_name(thing: object) -> str:
    """Module and qualified name of a class or function: `torch.optim.adamw.AdamW`."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(name, str):
        return f"{type(thing).__module__}.{type(thing).__qualname__}"
    return f"{module}.{name}" if module else name


def _refuse_unimported(path: str) -> None:
    first, *rest = path.split(".")
    dunder = next((part for part in rest if part.startswith("__") and part.endswith("__")), None)
    if dunder is not None:
        raise UnusableTarget(f"{dunder!r} is Python's own, not a part of a training run", _how_to_allow(path))
    if first in sys.stdlib_module_names and path not in _STANDARD_LIBRARY_VALUES:
        raise UnusableTarget(
            f"{first!r} is in Python's standard library, which has no part of a training run", _how_to_allow(path)
        )


def _how_to_allow(path: str) -> str:
    return f"If you trust it, add this to the command line: 'allow_targets=[{path}]'"


# --- from a name to an object, in the order in which Hydra looks ------------------------------------------------------


def _locate(path: str) -> _Found:
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
    return _Found(thing, parent, parts[-1])


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


# --- the allow-list ---------------------------------------------------------------------------------------------------


def _is_allowed(found: _Found) -> bool:
    thing = found.thing
    if inspect.isclass(thing):
        if _acts(thing):
            return False
        derives = _derives(thing, ALLOWED_BASES) and not _lies_in(thing, ("stablelit",))
        return derives or thing in _loaded(_VALUE_CLASSES) or _is_ours(thing, _ROOMS_OF_CLASSES)
    if inspect.isclass(found.parent):
        # `Trainer.fit` acts and `load_from_checkpoint` unpickles: of methods only constructors that we wrote ourselves
        written = inspect.getattr_static(found.parent, found.last, None)
        return isinstance(written, classmethod | staticmethod) and _is_ours(written.__func__, _ROOMS_OF_FUNCTIONS)
    return inspect.isfunction(thing) and _is_ours(thing, _ROOMS_OF_FUNCTIONS)


def _acts(thing: type) -> bool:
    """Whether constructing one runs text, unpickles or fetches what the configuration says."""
    return _derives(thing, _RUNS_TEXT) or _lies_in(thing, _UNPICKLING_ROOMS)


def _derives(thing: type, bases: Iterable[tuple[str, str]]) -> bool:
    # issubclass would ask a class's own `__subclasscheck__`, which may say anything
    mro = inspect.getmro(thing)
    return any(base in mro for base in _loaded(bases))


def _loaded(names: Iterable[tuple[str, str]]) -> list[object]:
    """The classes among `names` whose modules are imported; a subclass cannot exist before its base is."""
    modules = ((sys.modules.get(module), name) for module, name in names)
    return [getattr(module, name) for module, name in modules if hasattr(module, name)]


def _lies_in(thing: object, rooms: Iterable[str]) -> bool:
    module = getattr(thing, "__module__", None) or ""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _is_ours(thing: object, rooms: Iterable[str]) -> bool:
    """Defined in one of these rooms of stablelit under the name it says, and public."""
    module, name = getattr(thing, "__module__", None) or "", getattr(thing, "__qualname__", "")
    if not _lies_in(thing, rooms) or _lies_in(thing, _WRITING_ROOMS):
        return False
    if any(part.startswith("_") for part in name.split(".")):
        return False
    here: object = sys.modules.get(module)
    for part in name.split("."):
        here = getattr(here, part, None)
    return here is thing or getattr(here, "__func__", None) is thing


def _describe(found: _Found) -> str:
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


def _why_refused(found: _Found) -> str:
    if inspect.isclass(found.thing):
        if _derives(found.thing, _RUNS_TEXT):
            return "which runs text from the configuration as code"
        if _lies_in(found.thing, _UNPICKLING_ROOMS):
            return "which unpickles or fetches the files that the configuration names"
        return (
            "which is no module, optimizer, scheduler, metric, dataset, sampler or loader, no part of Lightning, "
            "and not defined in stablelit"
        )
    if inspect.isclass(found.parent):
        return "and a configuration may construct a class, not call its methods"
    if getattr(found.thing, "__module__", "").startswith("stablelit."):
        return f"which is not one of stablelit's factories ({', '.join(_ROOMS_OF_FUNCTIONS)})"
    return "which is not a class, and not defined in stablelit"
