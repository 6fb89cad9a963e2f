"""Operations whose derivative has no end, and what they were given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from stablelit.doctor.evidence.operations import AtTheEdge
from stablelit.doctor.probes.operations_record import Operation, caller

Test = Callable[[Tensor, Any], Tensor]
# where the value is infinite or no number; where only the derivative is
EDGES: dict[str, tuple[Test | None, Test | None]] = {
    "sqrt": (lambda x, _: x < 0, lambda x, _: x == 0),
    "rsqrt": (lambda x, _: x <= 0, None),
    "log": (lambda x, _: x <= 0, None),
    "log2": (lambda x, _: x <= 0, None),
    "log10": (lambda x, _: x <= 0, None),
    "log1p": (lambda x, _: x <= -1, None),
    "acos": (lambda x, _: x.abs() > 1, lambda x, _: x.abs() == 1),
    "asin": (lambda x, _: x.abs() > 1, lambda x, _: x.abs() == 1),
    "acosh": (lambda x, _: x < 1, lambda x, _: x == 1),
    "atanh": (lambda x, _: x.abs() >= 1, None),
    "reciprocal": (lambda x, _: x == 0, None),
    "pow": (lambda x, p: (x == 0) & (p < 0) | (x < 0) & (p % 1 != 0), lambda x, p: (x == 0) & (0 < p < 1)),
    "div": (None, None),
    "std": (None, None),
    "var": (None, None),
    "atan2": (None, None),
}


def measure_edge(operation: Operation, args: tuple[Any, ...], result: Tensor) -> None:
    """Notes where an operation was given a value at which it, or its derivative, is infinite or no number."""
    if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point() or args[0].data_ptr() == 0:
        return
    given = args[0].detach()
    other = args[1] if len(args) > 1 else None
    infinite: Tensor | None
    steep: Tensor | None = None
    if operation.name in ("std", "var"):
        infinite = result.detach().isnan() & bool(given.isfinite().all())
    elif operation.name == "div":
        if not isinstance(other, Tensor):
            return
        given = other.detach()
        infinite = given == 0
    elif operation.name == "atan2":
        infinite, steep = None, (given == 0) & (other == 0)
    elif operation.name == "pow" and not isinstance(other, int | float):
        return
    else:
        is_infinite, is_steep = EDGES[operation.name]
        infinite = is_infinite(given, other) if is_infinite else None
        steep = is_steep(given, other) if is_steep else None
    for where, value_too in ((infinite, True), (steep, False)):
        if where is not None and bool(where.any()) and (value_too or operation.has_gradient):
            argument = float(given.expand_as(where)[where][0]) if operation.name not in ("std", "var") else math.nan
            operation.where = caller()
            operation.notes["edge"] = AtTheEdge(
                operation.name, operation.where, argument, int(where.sum()), infinite=value_too
            )
            return
