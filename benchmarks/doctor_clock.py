"""The processor's time that a doctor takes of a fit, and the rest of the same fit: no two fits are compared.

Counted is the time of the training's thread in hooks of the doctor's that Lightning calls, in its hooks on layers and
on nodes of the graph, and in its record of the operations of the first steps, without the operations themselves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from stablelit.doctor.probes import hooks
from stablelit.doctor.probes.operations_record import OperationRecord

_PROBES = "stablelit.doctor.probes."


class DoctorClock:
    """Adds up, in `seconds`, what one callback takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.by_hook: dict[str, float] = {}
        self._inside = False
        self._own = _least_of_a_pair()

    def on(self, callback: pl.Callback) -> pl.Callback:
        """The same callback, with every hook of it timed."""
        for name in dir(callback):
            if name.startswith("on_") and getattr(type(callback), name) is not getattr(pl.Callback, name, None):
                vars(callback)[name] = self.timed(getattr(callback, name), name)
        return callback

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While a fit runs: hooks on layers and the record of operations are timed too."""
        rooms = [room for name, room in sys.modules.items() if name.startswith(_PROBES) and hasattr(room, "harmless")]
        harmless, record = hooks.harmless, OperationRecord.__torch_function__
        for room in rooms:
            vars(room)["harmless"] = lambda hook: self.timed(harmless(hook), "on layers")
        OperationRecord.__torch_function__ = self._recorded(record)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for room in rooms:
                vars(room)["harmless"] = harmless
            OperationRecord.__torch_function__ = record  # type: ignore[method-assign]

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function; its time is counted, unless what is being timed has called it."""

        def hook(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return call(*args, **kwargs)
            self._inside = True
            # the first reading takes several times as long as the next: what it runs is not in the cache
            time.thread_time()
            begin = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._add(time.thread_time() - begin - self._own, name)
                self._inside = False

        return hook

    def _recorded(self, record: Callable[..., Any]) -> Callable[..., Any]:
        """Without the time of the operation itself."""

        def function(own: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            theirs = 0.0

            def operation(*a: Any, **k: Any) -> Any:
                nonlocal theirs
                begin = time.thread_time()
                try:
                    return func(*a, **k)
                finally:
                    theirs += time.thread_time() - begin

            operation.__name__ = getattr(func, "__name__", "")
            operation.__self__ = getattr(func, "__self__", None)  # type: ignore[attr-defined]
            begin = time.thread_time()
            try:
                return record(own, operation, types, args, kwargs)
            finally:
                self._add(time.thread_time() - begin - theirs - 2.0 * self._own, "record of operations")

        return function

    def _add(self, seconds: float, name: str) -> None:
        self.seconds += max(0.0, seconds)
        self.by_hook[name] = self.by_hook.get(name, 0.0) + max(0.0, seconds)


def _least_of_a_pair() -> float:
    """What two readings of the clock are apart with nothing between them."""
    pairs = []
    for _ in range(1000):
        begin = time.thread_time()
        pairs.append(time.thread_time() - begin)
    return min(pairs)
