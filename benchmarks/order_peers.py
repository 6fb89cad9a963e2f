"""How others generate an epoch's order, and what an order takes in time and memory."""

from __future__ import annotations

import collections
import gc
import importlib.util
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def streaming_py1e(n: int, chunk: int = 4000, block: int = 2**18) -> Iterator[int]:
    """The default order of MosaicML Streaming, re-stated (streaming/base/shuffle/py1e.py; one canonical node).

    Shards in a random order, their samples shuffled, each moved by a uniform shift of up to half a block, and sorted
    by where they land: O(n log n), and several arrays of n.
    """
    rng = np.random.default_rng(0)
    starts = rng.permutation(np.arange(0, n, chunk))
    samples = np.concatenate([rng.permutation(np.arange(s, min(s + chunk, n))) for s in starts])
    half = (block - chunk) / 2
    places = np.arange(n, dtype=np.float64)
    for begin in range(0, n, chunk):
        end = min(begin + chunk, n)
        places[begin:end] += rng.uniform(max(-half, -begin), min(half, n - end), end - begin)
    yield from samples[np.argsort(places)].tolist()


def grain_index_shuffle() -> Callable[..., int] | None:
    """Google Grain's permutation of one index, from its own compiled module; None where grain is not installed."""
    package = importlib.util.find_spec("grain")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "_src/python/experimental/index_shuffle/python"
    for path in folder.glob("index_shuffle_module*.so"):
        spec = importlib.util.spec_from_file_location("index_shuffle_module", path)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.index_shuffle
    return None


def exhaust(order: Iterable[Any]) -> None:
    """Draws everything and keeps nothing."""
    collections.deque(order, maxlen=0)


def seconds(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def paired(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Medians of both, measured in turn, and the median of their ratio."""
    times = [(seconds(first), seconds(second)) for _ in range(repeats)]
    ratio = statistics.median(a / b for a, b in times)
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times), ratio


def first_batch_ms(make: Callable[[], Iterator[int]], repeats: int = 5) -> float:
    """From asking for an epoch to holding its first 256 indices."""

    def draw() -> None:
        order = iter(make())
        for _ in range(256):
            next(order)

    return 1e3 * statistics.median(seconds(draw) for _ in range(repeats))


def peak_mib(action: Callable[[], Any]) -> float:
    """What `action` adds to the resident memory of a forked child, at its highest (Linux)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = _high_water_kib()
            action()
            os.write(write, pickle.dumps(_high_water_kib() - before))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        kib = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    return kib / 1024


def _high_water_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmHWM")
