"""Tiny databases and folders of GraphNeT's, with the columns of two detectors."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = {
    "icecube": {
        "pulses": "SRTInIcePulses",
        "truth": "truth",
        "axes": ("dom_x", "dom_y", "dom_z"),
        "time": "dom_time",
        "azimuth": "azimuth",
        "zenith": "zenith",
        "energy": "energy",
        "particle": "pid",
        "interaction": "interaction_type",
    },
    "prometheus": {
        "pulses": "total",
        "truth": "mc_truth",
        "axes": ("sensor_pos_x", "sensor_pos_y", "sensor_pos_z"),
        "time": "t",
        "azimuth": "initial_state_azimuth",
        "zenith": "initial_state_zenith",
        "energy": "initial_state_energy",
        "particle": "initial_state_type",
        "interaction": "interaction",
    },
}


class GraphnetTablesOnDisk:
    """Columns of one detector.

    Args:
        detector: a key of `NAMES`.
        n_events: of the table of truth; the last has no pulse.
    """

    def __init__(self, detector: str, n_events: int = 9, seed: int = 0) -> None:
        names = self.names = NAMES[detector]
        rng = np.random.default_rng(seed)
        self.event_no = np.sort(rng.choice(1000, n_events, replace=False)).astype(np.int64)
        counts = rng.integers(1, 20, n_events)
        counts[-1] = 0
        total = int(counts.sum())
        self.sensors = rng.uniform(-400, 400, (25, 3)).round(2)
        self.sensor = rng.integers(0, 25, total)
        self.counts = counts
        self.pulses: dict[str, Any] = {
            "event_no": np.repeat(self.event_no, counts),
            **{axis: self.sensors[self.sensor, i] for i, axis in enumerate(names["axes"])},
            names["time"]: np.concatenate([np.sort(rng.uniform(9e3, 12e3, c)).round(1) for c in counts]),
        }
        if detector == "icecube":
            self.pulses |= {"charge": rng.lognormal(0, 0.4, total), "rde": np.ones(total), "pmt_area": np.ones(total)}
        azimuth = rng.uniform(0, 2 * np.pi, n_events)
        self.truth: dict[str, Any] = {
            "event_no": self.event_no,
            # numpy's arctan2 gives Prometheus' azimuths
            names["azimuth"]: azimuth if detector == "icecube" else azimuth - np.pi,
            names["zenith"]: rng.uniform(0.1, 3.0, n_events),
            names["energy"]: rng.uniform(100, 1e4, n_events),
            names["particle"]: rng.choice([12, -12, 14, -14, 13], n_events),
            names["interaction"]: rng.choice([1, 2], n_events),
        }

    def write_sqlite(self, path: Path) -> Path:
        with sqlite3.connect(path) as database:
            for table, columns in ((self.names["pulses"], self.pulses), (self.names["truth"], self.truth)):
                # rows in no order: neither format promises one
                order = np.random.default_rng(1).permutation(len(columns["event_no"]))
                rows = zip(*(np.asarray(column)[order].tolist() for column in columns.values()), strict=True)
                database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                marks = ", ".join("?" * len(columns))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.close()
        return path

    def write_parquet(self, folder: Path, parts: int = 3) -> Path:
        for table, columns in ((self.names["pulses"], self.pulses), (self.names["truth"], self.truth)):
            inside = folder / "merged" / table
            inside.mkdir(parents=True)
            for k, ids in enumerate(np.array_split(self.event_no, parts)):
                mine = np.random.default_rng(k).permutation(np.flatnonzero(np.isin(columns["event_no"], ids)))
                part = {name: np.asarray(column)[mine] for name, column in columns.items()}
                pq.write_table(pa.table(part), inside / f"{table}_{k}.parquet")
        return folder

    def direction(self, i: int, momentum: bool) -> np.ndarray:
        """The unit vector towards the source of event i."""
        azimuth, zenith = self.truth[self.names["azimuth"]][i], self.truth[self.names["zenith"]][i]
        vector = np.array([np.cos(azimuth) * np.sin(zenith), np.sin(azimuth) * np.sin(zenith), np.cos(zenith)])
        return -vector if momentum else vector
