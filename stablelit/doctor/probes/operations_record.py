"""Writes down the operations of one step, so that what a loss is made of can be read from them."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MOST_OPERATIONS = 20_000
_LIBRARIES = tuple(
    f"{os.sep}{name}{os.sep}"
    for name in ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics", "torch_geometric")
)
_OURS = os.path.dirname(os.path.abspath(__file__))
# what only looks at a tensor, or says nothing about values
_UNREMARKABLE = frozenset({"size", "dim", "ndim", "numel", "stride", "is_floating_point", "is_complex", "__len__"})
_SHOWING = """
view reshape squeeze unsqueeze flatten unflatten transpose permute swapaxes moveaxis movedim contiguous clone to float
double half bfloat16 type type_as view_as reshape_as getitem select narrow index_select masked_select t chunk split
unbind expand expand_as alias
"""
VIEWS = frozenset(_SHOWING.split())
_SPELLINGS = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rdiv": "div",
    "rtruediv": "div",
    "multiply": "mul",
    "rmul": "mul",
    "radd": "add",
    "iadd": "add",
    "rsub": "sub",
    "subtract": "sub",
    "arccos": "acos",
    "arcsin": "asin",
    "absolute": "abs",
    "negative": "neg",
    "T": "transpose",
    "mT": "transpose",
    "H": "transpose",
    "mH": "transpose",
    "vector_norm": "norm",
    "linalg_norm": "norm",
    "linalg_vector_norm": "norm",
    "hardsigmoid": "sigmoid",
}


@dataclass
class Operation:
    """One operation, or a tensor that was there before.

    Args:
        name: ``linear``; ``leaf``, ``parameter`` or ``unknown`` for a tensor of which no making was seen.
        inputs: places of the operations that made its arguments, in the record.
        shape: of its result.
        has_gradient: whether a gradient can pass through its result.
        leaves: names of the leaves of the batch from which its result was made without any weight.
        where: the line that called it, where somebody asked for it.
        notes: what was measured of its arguments and result.
    """

    name: str
    inputs: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    has_gradient: bool = False
    leaves: frozenset[str] = frozenset()
    where: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


Measure = Callable[["OperationRecord", Operation, tuple[Any, ...], Mapping[str, Any], Tensor], None]


class OperationRecord(TorchFunctionMode):
    """The operations between its entry and its exit, in their order.

    It sees what Python calls: an operation inside a compiled or scripted function, or inside a custom
    `autograd.Function`, is not there, and what comes out of one is ``unknown``. Tensors are known by weak references,
    so that none lives longer than it would.

    Args:
        leaves: tensors of the batch, by name.
        measure: is called with this record, every operation, its arguments and its first result, and takes notes.
    """

    def __init__(self, leaves: Mapping[str, Tensor], measure: Measure) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.broken = False
        self._measure = measure
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        for name, tensor in leaves.items():
            self._enter(tensor, Operation("leaf", leaves=frozenset({name})))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, and writes it down."""
        kwargs = kwargs or {}
        # what is looked at while somebody traces would become part of the trace
        if self.broken or len(self.operations) > _MOST_OPERATIONS or torch._C._get_tracing_state() is not None:
            return func(*args, **kwargs)
        try:
            # before the call: one in place changes what its arguments were
            places = [self.place(value) for value in _tensors(args, kwargs)]
            had_gradient = any(value.requires_grad for value in _tensors(args, kwargs))
        except Exception:
            self.broken = True
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        try:
            self._write(func, args, kwargs, result, places, had_gradient)
        except Exception:
            self.broken = True
        return result

    def through_views(self, place: int) -> int:
        """The place of what the tensor there shows: views, casts and selections are passed."""
        operation = self.operations[place]
        while operation.name in VIEWS and operation.inputs:
            place = operation.inputs[0]
            operation = self.operations[place]
        return place

    def place(self, tensor: Any) -> int | None:
        """Where the tensor stands in the record; None for what is no tensor."""
        if not isinstance(tensor, Tensor):
            return None
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        name = "parameter" if isinstance(tensor, torch.nn.Parameter) else "unknown"
        return self._enter(tensor, Operation(name, has_gradient=tensor.requires_grad))

    def _enter(self, tensor: Tensor, operation: Operation) -> int:
        operation.shape = tuple(tensor.shape)
        self.operations.append(operation)
        self._known[id(tensor)] = (weakref.ref(tensor), len(self.operations) - 1)
        return len(self.operations) - 1

    def _write(
        self, func: Any, args: Any, kwargs: Any, result: Any, places: list[int | None], had_gradient: bool
    ) -> None:
        name = name_of(func)
        if name in _UNREMARKABLE or name == "":
            return
        if name == "setitem":
            result = args[0]
        results = [value for value in (result if isinstance(result, tuple | list) else [result]) if _is_tensor(value)]
        if not results:
            return
        inputs = tuple(place for place in places if place is not None)
        made_of = [self.operations[place] for place in inputs]
        leaves: frozenset[str] = frozenset()
        if not had_gradient and not any(operation.name == "parameter" for operation in made_of):
            leaves = frozenset().union(*(operation.leaves for operation in made_of)) if made_of else leaves
        operation = Operation(name, inputs, leaves=leaves, has_gradient=results[0].requires_grad)
        for value in results:
            self._enter(value, operation)
        if len(results) > 1:
            operation.shape = tuple(results[0].shape)
        self._measure(self, operation, args, kwargs, results[0])


def name_of(func: Any) -> str:
    """The operation's one name, however it was spelled: ``relu`` of `relu_`, ``div`` of `__truediv__`."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    elif name in ("__set__", "__delete__"):
        return ""
    name = name.strip("_")
    return _SPELLINGS.get(name, name)


def caller() -> str:
    """The innermost line that belongs to no library: ``file.py:12``."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((_OURS, "<")) and not any(library in path for library in _LIBRARIES):
            return f"{os.path.basename(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _tensors(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found
