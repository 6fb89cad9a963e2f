"""Where a detector's sensors are: Kaggle's sensor_geometry.csv, GraphNeT's geometry tables, and a generated detector.

The rows are the sensors in the order of their sensor_id, so that a pulse's `sensor` is a row. Positions are in metres
from the centre of the detector, z upwards.

IceCube (5160 sensors) numbers them ``sensor_id = 60 (string - 1) + place from the top``; strings 79 to 86 (sensor_id of
4680 and more) are DeepCore, whose photomultipliers see 1.35 times as much.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import existing_file, replacing
from stablelit.errors import DataError, bad_argument, did_you_mean, missing_extra

ICECUBE_SENSORS, SENSORS_PER_STRING, DEEP_CORE_BEGIN = 5160, 60, 4680
# the hexagonal detector: IceCube's numbers, regular
STRING_SPACING_M, SENSOR_SPACING_M = 125.0, 17.0
DEEP_CORE_RADIUS_M = STRING_SPACING_M / 2

# IceCube's tables of GraphNeT give z from the surface; the centre lies so far below
ICECUBE_CENTRE_DEPTH_M = 1948.07

Floats = NDArray[np.float32]
_ALLOWED = "sensor_geometry.csv with sensor_id,x,y,z, or GraphNeT's parquet table with sensor_id,sensor_pos_x,_y,_z"


@dataclass(frozen=True)
class DetectorGeometry:
    """The S sensors of a detector; row i is the sensor with sensor_id i.

    Args:
        position: ``(S, 3)`` float32, metres, z upwards.
        string: ``(S,)`` int32, the number of each sensor's string, from 1.
        deep_core: ``(S,)`` bool, whose efficiency is higher.

    Raises:
        ConfigurationError: shapes that do not agree, no sensors, a position that is not finite.
    """

    position: Floats
    string: NDArray[np.int32]
    deep_core: NDArray[np.bool_]

    def __post_init__(self) -> None:
        owner = "DetectorGeometry"
        if self.position.ndim != 2 or self.position.shape[1] != 3 or not len(self.position):
            raise bad_argument(owner, "position", self.position.shape, "an array (S, 3) with one or more sensors")
        for name in ("string", "deep_core"):
            if getattr(self, name).shape != (len(self.position),):
                raise bad_argument(owner, name, getattr(self, name).shape, f"one value a sensor, ({len(self)},)")
        if not np.isfinite(self.position).all():
            row = int(np.argmin(np.isfinite(self.position).all(axis=1)))
            raise bad_argument(owner, f"position[{row}]", self.position[row].tolist(), "finite metres")

    def __len__(self) -> int:
        return len(self.position)

    @staticmethod
    def of_positions(position: NDArray[np.floating], string: NDArray[np.integer] | None = None) -> DetectorGeometry:
        """The geometry of some positions, in the order of sensor_id.

        Args:
            position: ``(S, 3)``, metres. 5160 sensors are taken as IceCube's; of every other detector no sensor is
                DeepCore's, and sensors of equal x and y are a string, numbered in the order of their first sensor.
            string: ``(S,)``, the strings, where a file has them; taken instead of those found by position.
        """
        position = np.ascontiguousarray(position, dtype=np.float32)
        sensor = np.arange(len(position))
        is_icecube = len(position) == ICECUBE_SENSORS
        if string is None and is_icecube:
            string = sensor // SENSORS_PER_STRING + 1
        elif string is None:
            _, first, found = np.unique(position[:, :2], axis=0, return_index=True, return_inverse=True)
            number = np.empty(len(first), dtype=np.int64)
            number[np.argsort(first)] = np.arange(1, len(first) + 1)
            string = number[found.reshape(-1)]
        return DetectorGeometry(
            position, np.asarray(string, dtype=np.int32), (sensor >= DEEP_CORE_BEGIN) & np.bool_(is_icecube)
        )

    def write_csv(self, path: str | Path) -> None:
        """Writes sensor_geometry.csv (sensor_id,x,y,z) with the digits that give the same float32 again."""
        lines = ["sensor_id,x,y,z"]
        lines += [f"{i},{x},{y},{z}" for i, (x, y, z) in enumerate(self.position.astype(str).tolist())]
        with replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def identity(self) -> str:
        """SHA-256 of positions, strings and DeepCore: equal for equal detectors."""
        digest = hashlib.sha256()
        for column in (self.position.astype("<f4"), self.string.astype("<i4"), self.deep_core.astype("u1")):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def hexagonal_detector() -> DetectorGeometry:
    """A regular detector of IceCube's size, numbered as IceCube is: 78 strings on a hexagonal grid, 8 of DeepCore.

    The 78 points of a triangular lattice of 125 m that are nearest to its point at the origin (equally near ones by
    their azimuth), numbered by y and then x; then a DeepCore string 62.5 m from the centre in each of 8 directions 45
    degrees apart. Every string has 60 sensors 17 m apart, from z = 501.5 m down to -501.5 m: 5160 sensors.
    """
    steps = np.arange(-7, 8)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(steps, steps))
    x, y = STRING_SPACING_M * (a + 0.5 * b), STRING_SPACING_M * np.sqrt(0.75) * b
    nearest = np.lexsort((np.arctan2(y, x), np.round(np.hypot(x, y), 3)))[:78]
    x, y = x[nearest], y[nearest]
    order = np.lexsort((np.round(x, 3), np.round(y, 3)))
    turn = np.arange(8) * np.pi / 4
    x = np.concatenate([x[order], DEEP_CORE_RADIUS_M * np.cos(turn)])
    y = np.concatenate([y[order], DEEP_CORE_RADIUS_M * np.sin(turn)])
    z = SENSOR_SPACING_M * (0.5 * (SENSORS_PER_STRING - 1) - np.arange(SENSORS_PER_STRING))
    strings = np.broadcast_to(np.stack([x, y], axis=1)[:, None], (len(x), len(z), 2))
    heights = np.broadcast_to(z[:, None], (len(x), len(z), 1))
    return DetectorGeometry.of_positions(np.concatenate([strings, heights], axis=2).reshape(-1, 3))


def read_geometry(path: str | Path) -> DetectorGeometry:
    """The geometry in a file: Kaggle's sensor_geometry.csv, or a geometry table of GraphNeT (.parquet).

    Rows may be in any order. A column `sensor_string_id` names the strings where there is one. IceCube's 5160 sensors
    may be given from the surface (all of them below -1000 m): they are moved up by 1948.07 m, as Kaggle has them.

    Raises:
        DataError: no such file, empty, another format, a missing column (near names are given), a cell that is no
            finite number, a sensor_id that is there twice or not 0 to S - 1.
        MissingDependencyError: a parquet file, and pyarrow is not installed.
    """
    path = existing_file(path, "the geometry of a detector", "sensor_geometry.csv")
    columns = _parquet_columns(path) if path.suffix.lower() in (".parquet", ".pq") else _csv_columns(path)
    axes = [_numbers(path, columns, name) for name in _axes(path, columns)]
    sensor_id = _numbers(path, columns, "sensor_id")
    order = _order_of_ids(path, sensor_id)
    position = np.stack(axes, axis=1)[order]
    if len(position) == ICECUBE_SENSORS and position[:, 2].max() < -1000.0:
        position[:, 2] += ICECUBE_CENTRE_DEPTH_M
    string = None
    if "sensor_string_id" in columns:
        string = _numbers(path, columns, "sensor_string_id")[order].astype(np.int32)
    return DetectorGeometry.of_positions(position, string)


def _axes(path: Path, columns: Mapping[str, object]) -> list[str]:
    wanted = [f"sensor_pos_{axis}" if "sensor_pos_x" in columns else axis for axis in "xyz"]
    for name in ("sensor_id", *wanted):
        if name not in columns:
            raise DataError(
                f"{path}: no column {name!r}. Columns there: {', '.join(map(repr, columns))}. Allowed: {_ALLOWED}. "
                f"{did_you_mean(name, columns)}".rstrip()
            )
    return wanted


def _csv_columns(path: Path) -> dict[str, Sequence[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as csv ({error}). Allowed: {_ALLOWED}.") from error
    if not rows:
        raise DataError(f"{path}: no lines but empty ones. Allowed: {_ALLOWED}.")
    header = [name.strip() for name in rows[0]]
    _axes(path, dict.fromkeys(header))
    if len(rows) == 1:
        raise DataError(f"{path}: no sensors (there are no lines but the header). Copy or download it again.")
    odd = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if odd is not None:
        raise DataError(
            f"{path}: row {odd} has {len(rows[odd])} cells and the header {len(header)}: {rows[odd]}. "
            "Allowed: as many. The file is damaged or cut short: copy or download it again."
        )
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True))


def _parquet_columns(path: Path) -> dict[str, Sequence[object]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Reading a geometry from a parquet file") from error
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            wanted = ["sensor_id", *_axes(path, dict.fromkeys(found)), "sensor_string_id"]
            table = file.read(columns=[name for name in wanted if name in found])
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error}). Copy or download it again.") from error
    if not len(table):
        raise DataError(f"{path}: no sensors (the table has no rows).")
    return {name: table[name].to_pylist() for name in table.column_names}


def _numbers(path: Path, columns: Mapping[str, Sequence[object]], name: str) -> NDArray[np.float64]:
    cells = columns[name]
    try:
        values = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([_number(cell) for cell in cells])
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{path}: row {row + 1}: {name} is {cells[row]!r} ({int(bad.sum())} of {len(bad)} are such). "
            "Allowed: a finite number. Mend the file or copy it again."
        )
    return values


def _number(cell: object) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _order_of_ids(path: Path, sensor_id: NDArray[np.float64]) -> NDArray[np.int64]:
    n = len(sensor_id)
    order = np.argsort(sensor_id, kind="stable")
    ranked = sensor_id[order]
    if (ranked == np.arange(n)).all():
        return order
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    if len(twice):
        rows = (np.flatnonzero(sensor_id == twice[0])[:2] + 1).tolist()
        raise DataError(
            f"{path}: sensor_id {twice[0]:g} is there more than once (rows {rows[0]} and {rows[1]}). "
            f"Allowed: 0 to {n - 1}, each once. Drop the duplicates."
        )
    bad = (sensor_id < 0) | (sensor_id >= n) | (sensor_id != np.floor(sensor_id))
    row = int(np.argmax(bad))
    raise DataError(
        f"{path}: row {row + 1}: sensor_id is {sensor_id[row]:g} ({int(bad.sum())} of {n} are such). Allowed: 0 to "
        f"{n - 1}, each once, as there are {n} rows. Are rows missing, or is the numbering another?"
    )
