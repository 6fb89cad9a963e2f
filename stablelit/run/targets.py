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

import inspect
import sys
from collections.abc import Collection, Iterable

from stablelit.run.located_target import Found, UnusableTarget, described, full_name, locate

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
    found = locate(path)
    name = full_name(found.thing)
    if not callable(found.thing):
        raise UnusableTarget(f"resolves to {described(found)}, which cannot be called")
    if path not in allow_targets and name not in allow_targets and not _is_allowed(found):
        raise UnusableTarget(f"resolves to {described(found)}, {_why_refused(found)}", _how_to_allow(path))
    return found.thing


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


def _is_allowed(found: Found) -> bool:
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


def _why_refused(found: Found) -> str:
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
