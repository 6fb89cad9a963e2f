"""Events of random pulses in parquet files, behind a cache of a few files: the post-mortem's data set."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from stablelit.errors import missing_extra


def arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "bench", "the benchmark of parquet files") from None
    return pyarrow


def pulse_counts(n: int, rng: np.random.Generator) -> np.ndarray:
    """Pulses of an event, a log-normal mixture: median about 60, a tail of thousands."""
    body, tail = rng.lognormal(np.log(52), 0.6, n), rng.lognormal(np.log(180), 1.4, n)
    return np.where(rng.random(n) < 0.85, body, tail).astype(np.int64).clip(1, 80_000)


def write_files(folder: Path, files: int, events: int, mean_pulses: int = 95) -> None:
    """`files` parquet files of `events` events each: an event number, sensor, time and charge a pulse."""
    pa = arrow()
    rng = np.random.default_rng(0)
    for file in range(files):
        counts = rng.poisson(mean_pulses, events).clip(1)
        total = int(counts.sum())
        columns = {
            "event": np.repeat(np.arange(events, dtype=np.int32), counts),
            "sensor": rng.integers(0, 5160, total, dtype=np.uint16),
            "time": rng.random(total, dtype=np.float32),
            "charge": rng.random(total, dtype=np.float32),
        }
        pa.parquet.write_table(pa.table(columns), folder / f"{file}.parquet")


class PulseFiles:
    """A map-style data set over such files that keeps the `cache_size` files read last.

    Args:
        folder: of the files.
        events: in each of them.
        cache_size: files kept.
        as_arrays: keeps a file as one array, of which an event is a view. Otherwise it is kept as a table, of which
            an event is a slice, made features of when it is asked for (position of the sensor, time, log charge), as
            in the post-mortem.
    """

    def __init__(self, folder: Path, events: int, cache_size: int, as_arrays: bool = False) -> None:
        self.files = sorted(folder.glob("*.parquet"))
        self.events = events
        self.chunk_sizes = [events] * len(self.files)
        self.cache_size = cache_size
        self.as_arrays = as_arrays
        self.loads = 0
        self._positions = np.random.default_rng(1).random((5160, 3), dtype=np.float32)
        self._cache: OrderedDict[int, tuple[np.ndarray, Any]] = OrderedDict()

    def __len__(self) -> int:
        return self.events * len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        file, event = divmod(index, self.events)
        bounds, pulses = self._file(file)
        begin, end = bounds[event], bounds[event + 1]
        return pulses[begin:end] if self.as_arrays else self._features(pulses.slice(begin, end - begin))

    def _file(self, file: int) -> tuple[np.ndarray, Any]:
        if file in self._cache:
            self._cache.move_to_end(file)
            return self._cache[file]
        self.loads += 1
        while len(self._cache) >= self.cache_size:
            self._cache.popitem(last=False)
        table = arrow().parquet.read_table(self.files[file])
        bounds = np.searchsorted(table["event"].to_numpy(), np.arange(self.events + 1))
        self._cache[file] = bounds, _columns(table) if self.as_arrays else table
        return self._cache[file]

    def _features(self, table: Any) -> np.ndarray:
        sensor, time, charge = (table[name].to_numpy() for name in ("sensor", "time", "charge"))
        features = np.empty((len(sensor), 5), dtype=np.float32)
        features[:, :3] = self._positions[sensor]
        features[:, 3] = (time - time.mean()) / 3e4
        features[:, 4] = np.log10(charge + 1e-6)
        return features


def _columns(table: Any) -> np.ndarray:
    return np.stack([table[name].to_numpy().astype(np.float32) for name in ("sensor", "time", "charge")], axis=1)


def concatenated(events: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The pulses of a batch one behind the other, and how many each event has."""
    return np.concatenate(events), np.array([len(event) for event in events])
