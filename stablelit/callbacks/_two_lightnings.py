"""What a thing of Lightning's is, by the names of its classes: there are two Lightnings, and this must serve both."""

from __future__ import annotations

from typing import Any

_WRAPS: dict[type, bool] = {}


def inner_optimizer(optimizer: Any) -> Any:
    """The torch optimizer in a LightningOptimizer."""
    kind = type(optimizer)
    if kind not in _WRAPS:
        _WRAPS[kind] = is_a("LightningOptimizer", optimizer)
    return optimizer._optimizer if _WRAPS[kind] else optimizer


def is_a(name: str, thing: Any) -> bool:
    """Whether a class of this name is among those of a thing."""
    return any(kind.__name__ == name for kind in type(thing).__mro__)


def defined_as_in(base: str, kind: type, method: str) -> bool:
    """Whether a class has a method as Lightning's class `base` defines it."""
    owner = next(k for k in kind.__mro__ if method in vars(k))
    return owner.__name__ == base and owner.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
