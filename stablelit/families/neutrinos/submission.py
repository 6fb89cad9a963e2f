"""Predictions in the format of the competition "IceCube - Neutrinos in Deep Ice": ``event_id,azimuth,zenith``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stablelit.data.files import replacing
from stablelit.errors import ConfigurationError, DataError, missing_extra

COLUMNS = ("event_id", "azimuth", "zenith")
ENDINGS = (".csv", ".parquet")
# lines of text that are made at a time
_LINES = 65_536


def write_submission(
    path: str | Path,
    event_id: np.ndarray,
    azimuth: np.ndarray,
    zenith: np.ndarray,
    expected: np.ndarray | None = None,
) -> Path:
    """Writes a submission, a row for each event; a file that is there is replaced once the new one is complete.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        event_id: ``(E,)`` integers.
        azimuth: ``(E,)`` radians, in [0, 2 pi).
        zenith: ``(E,)`` radians, in [0, pi].
        expected: ``(E,)`` the event_ids of the meta file: rows are written in their order, and it is checked that every
            event is there and no other. None keeps the order of `event_id`.

    Returns:
        The path.

    Raises:
        ConfigurationError: another ending.
        DataError: columns of different lengths, ids that are not integers, an event twice, missing or too many, NaN, an
            angle outside its range.
        MissingDependencyError: ``.parquet`` without pyarrow.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ConfigurationError(f"{path}: ends in {path.suffix!r}. Allowed: {' and '.join(ENDINGS)}.")
    event_id, azimuth, zenith = _checked(path, event_id, azimuth, zenith)
    if expected is not None:
        rows = _rows_of(path, event_id, np.asarray(expected))
        event_id, azimuth, zenith = event_id[rows], azimuth[rows], zenith[rows]
    if path.suffix == ".parquet":
        _write_parquet(path, event_id, azimuth, zenith)
    else:
        _write_csv(path, event_id, azimuth, zenith)
    return path


def _checked(
    path: Path, event_id: np.ndarray, azimuth: np.ndarray, zenith: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = [np.asarray(column) for column in (event_id, azimuth, zenith)]
    shapes = [column.shape for column in columns]
    if any(shape != (shapes[0][0] if shapes[0] else -1,) for shape in shapes) or not len(columns[0]):
        told = ", ".join(f"{name} {shape}" for name, shape in zip(COLUMNS, shapes, strict=True))
        raise DataError(f"{path}: {told}. Allowed: one dimension, the same length, one event at least.")
    ids = columns[0]
    if ids.dtype.kind not in "iu":
        raise DataError(f"{path}: event_id is {ids.dtype}. Allowed: integers.")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise DataError(
            f"{path}: event_id {unique[counts.argmax()]} is there {counts.max()} times "
            f"({int((counts > 1).sum())} events more than once). Allowed: a row for each event."
        )
    angles = []
    for name, values, top, bound in (
        ("azimuth", columns[1], 2 * math.pi, "[0, 2 pi)"),
        ("zenith", columns[2], math.pi, "[0, pi]"),
    ):
        values = values.astype(np.float64)
        good = (values >= 0) & ((values < top) if bound.endswith(")") else (values <= top))
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise DataError(
                f"{path}: row {row} (event_id {ids[row]}): {name}={values[row]} ({int((~good).sum())} rows are "
                f"affected). Allowed: {bound}. Take angles from `azimuth_zenith_of`."
            )
        angles.append(values)
    return ids.astype(np.int64), angles[0], angles[1]


def _rows_of(path: Path, event_id: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where each expected event is."""
    order = np.argsort(event_id)
    place = np.searchsorted(event_id, expected, sorter=order)
    rows = order[np.minimum(place, len(order) - 1)]
    missing = event_id[rows] != expected
    if missing.any():
        raise DataError(
            f"{path}: {int(missing.sum())} of {len(expected)} events of the meta file have no prediction, the first is "
            f"event_id {expected[missing][0]}. Allowed: all of them. Predict on every batch of the test set."
        )
    if len(expected) != len(event_id):
        others = np.setdiff1d(event_id, expected)
        told = f"event_id {others[0]} is not in the meta file" if len(others) else "the meta file has an event twice"
        raise DataError(f"{path}: {len(event_id)} predictions for {len(expected)} events: {told}.")
    return rows


def _write_csv(path: Path, event_id: np.ndarray, azimuth: np.ndarray, zenith: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for start in range(0, len(event_id), _LINES):
            part = slice(start, start + _LINES)
            rows = zip(event_id[part].tolist(), azimuth[part].tolist(), zenith[part].tolist(), strict=True)
            file.writelines(f"{event},{a!r},{z!r}\n" for event, a, z in rows)


def _write_parquet(path: Path, event_id: np.ndarray, azimuth: np.ndarray, zenith: np.ndarray) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", "parquet", "Writing a .parquet file") from error
    table = pa.table(dict(zip(COLUMNS, (event_id, azimuth, zenith), strict=True)))
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
