"""Hooks on anybody's modules and graphs, which run inside of the training and outside of what guards a probe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import nn


def harmless(hook: Callable[..., Any]) -> Callable[..., None]:
    """The same hook, which says nothing where it cannot look, and neither raises nor returns anything."""

    def look(*args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(Exception):
            hook(*args, **kwargs)

    return look


def has_compiled_parts(module: nn.Module) -> bool:
    """Whether some part is compiled: a hook on a module in it would have it compiled anew."""
    return any(
        type(part).__name__ == "OptimizedModule" or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )
