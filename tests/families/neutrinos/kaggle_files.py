"""Tiny folders in Kaggle's layout, written column by column, so that any of them can be made wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_SENSORS = 40


def random_columns(n_events: int, seed: int, first_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of pulses and of events, as a batch file and its part of the table have them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, n_events)
    total = int(counts.sum())
    event_id = first_id + 3 * np.arange(n_events)
    last = np.cumsum(counts) - 1
    pulses = {
        "event_id": np.repeat(event_id, counts),
        "time": np.concatenate([np.sort(rng.integers(5_000, 20_000, c)) for c in counts]),
        "sensor_id": rng.integers(0, N_SENSORS, total).astype(np.int16),
        "charge": rng.lognormal(0, 0.5, total).astype(np.float32),
        "auxiliary": rng.random(total) < 0.5,
    }
    events = {
        "event_id": event_id,
        "first_pulse_index": last - counts + 1,
        "last_pulse_index": last,
        "azimuth": rng.uniform(0, 2 * np.pi, n_events),
        "zenith": np.arccos(rng.uniform(-1, 1, n_events)),
    }
    return pulses, events


class KaggleFiles:
    """A folder being made.

    Args:
        folder: where.
        sizes: events of each batch file, the first of which is batch 1.
    """

    def __init__(self, folder: Path, sizes: tuple[int, ...] = (5, 7, 4)) -> None:
        self.folder = folder
        self.pulses: dict[int, dict[str, Any]] = {}
        self.events: dict[int, dict[str, Any]] = {}
        for batch, size in enumerate(sizes, start=1):
            self.pulses[batch], self.events[batch] = random_columns(size, batch, 1000 * batch)
        rng = np.random.default_rng(99)
        self.position = rng.uniform(-500, 500, (N_SENSORS, 3)).round(2)

    def write(self, split: str = "train", truth: bool = True, row_group_size: int = 20) -> Path:
        (self.folder / split).mkdir(parents=True, exist_ok=True)
        for batch, columns in self.pulses.items():
            path = self.folder / split / f"batch_{batch}.parquet"
            pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
        names = list(next(iter(self.events.values())))
        table = {
            "batch_id": np.concatenate([np.full(len(e["event_id"]), b) for b, e in self.events.items()]),
            **{n: np.concatenate([e[n] for e in self.events.values()]) for n in names},
        }
        if not truth:
            table = {n: c for n, c in table.items() if n not in ("azimuth", "zenith")}
        pq.write_table(pa.table(table), self.folder / f"{split}_meta.parquet")
        lines = [f"{i},{x},{y},{z}" for i, (x, y, z) in enumerate(self.position.tolist())]
        (self.folder / "sensor_geometry.csv").write_text("sensor_id,x,y,z\n" + "\n".join(lines) + "\n")
        return self.folder

    def event(self, batch: int, i: int) -> dict[str, Any]:
        """The pulses of an event by slicing its rows."""
        first, last = (int(self.events[batch][f"{end}_pulse_index"][i]) for end in ("first", "last"))
        return {name: column[first : last + 1] for name, column in self.pulses[batch].items()}
