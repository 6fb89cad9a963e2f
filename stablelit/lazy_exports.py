"""Names of a package that are imported when somebody asks for them: nothing heavy is loaded with the package."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, exports: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """What a package's ``__init__`` needs to offer names of its modules: ``__all__``, ``__getattr__``, ``__dir__``.

    Args:
        package: its ``__name__``.
        exports: for each name the module in the package that has it.

    Example:
        >>> _, get, _ = lazy_exports("stablelit", {"shuffle_quality": "functional.shuffle_quality"})
        >>> get("shuffle_quality").__name__
        'shuffle_quality'
    """
    names = sorted(exports)

    def get(name: str) -> Any:
        if name in exports:
            return getattr(importlib.import_module(f"{package}.{exports[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return names, get, lambda: list(names)
