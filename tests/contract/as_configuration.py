"""What a configuration file says of a callback that the registry builds, found by watching the constructors."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import Any

import stablelit.callbacks as suite
from stablelit.doctor import TrainingDoctor
from stablelit.functional.plateau_gate import PlateauGate


def as_configuration(make: Any) -> dict[str, Any]:
    """`class_path` and `init_args` of what `make` builds, by watching the constructors."""
    with watched() as given:
        return described(make(), given)


def described(value: Any, given: dict[int, tuple[Any, dict[str, Any]]]) -> Any:
    if id(value) in given:
        arguments = {name: described(v, given) for name, v in given[id(value)][1].items()}
        return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": arguments}
    return value


@contextmanager
def watched():
    """Inside, what the suite's classes are built with is kept, by the identity of what was built."""
    given: dict[int, tuple[Any, dict[str, Any]]] = {}
    kinds = {getattr(suite, name) for name in suite.__all__} | {TrainingDoctor, PlateauGate}
    originals = {kind: kind.__init__ for kind in kinds if isinstance(kind, type)}

    def watching(kind, original):
        def __init__(self, *args, **kwargs):
            if type(self) is kind:
                own = original is not object.__init__ and "__init__" in vars(kind)
                bound = inspect.signature(original).bind(self, *args, **kwargs).arguments if own else {}
                given[id(self)] = (self, dict(list(bound.items())[1:]))
            original(self, *args, **kwargs)

        return __init__

    inherited = {kind for kind in originals if "__init__" not in vars(kind)}
    for kind, original in originals.items():
        kind.__init__ = watching(kind, original)
    try:
        yield given
    finally:
        for kind, original in originals.items():
            if kind in inherited:
                del kind.__init__
            else:
                kind.__init__ = original
