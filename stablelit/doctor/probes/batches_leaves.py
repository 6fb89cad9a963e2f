"""The tensors of anybody's batch, each with the name by which one would get it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

_MOST_LEAVES = 32
_DEEPEST = 4


def leaves_of(batch: Any) -> dict[str, Tensor]:
    """The tensors of a batch by name: ``batch[0]``, ``batch['image']``, ``batch.x``.

    Tuples, lists, mappings, dataclasses, graphs of torch_geometric and objects with attributes are gone through; at
    most 32 tensors are taken.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in _walk(batch, "batch", 0):
        found[name] = tensor
        if len(found) == _MOST_LEAVES:
            break
    return found


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
        return
    if depth == _DEEPEST or isinstance(value, str | bytes | int | float | type(None)):
        return
    for shown, item in _parts(value):
        yield from _walk(item, name + shown, depth + 1)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{key}", getattr(value, key)) for key in value._fields)
    elif isinstance(value, tuple | list):
        yield from ((f"[{index}]", item) for index, item in enumerate(value[:_MOST_LEAVES]))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    to_dict = getattr(value, "to_dict", None)
    try:
        held = to_dict() if callable(to_dict) else getattr(value, "__dict__", {})
    except Exception:
        return
    if isinstance(held, Mapping):
        for key, item in held.items():
            if isinstance(key, str) and not key.startswith("_"):
                yield f".{key}", item
            elif not isinstance(key, str):
                yield f"[{key!r}]", item
