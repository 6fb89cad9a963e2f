"""Times as benchmarks take them: CPU seconds, so that what else the machine does counts little, and by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def cpu_seconds(action: Callable[[], Any]) -> float:
    """Of this process, all its threads."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def in_turn(slow: Callable[[], Any], fast: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Medians of the CPU seconds of both, and the median of their ratio."""
    # once outside the count: memory and kernels are made ready
    slow(), fast()
    times = [(cpu_seconds(slow), cpu_seconds(fast)) for _ in range(repeats)]
    slow_s, fast_s = (statistics.median(column) for column in zip(*times, strict=True))
    return slow_s, fast_s, statistics.median(a / b for a, b in times)


def timed(call: Callable[..., Any], spent: list[float], clock: Callable[[], float] = time.process_time) -> Any:
    """The same function, which adds its seconds to a list."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        begin = clock()
        result = call(*args, **kwargs)
        spent.append(clock() - begin)
        return result

    return wrapped
