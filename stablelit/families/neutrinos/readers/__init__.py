"""Readers of events, and which of them a path is for.

| format | told by | files that events are split by | truth |
|---|---|---|---|
| packed | a folder with packed.json (`python -m stablelit.prepare neutrinos`) | those it was made of | as there |
| kaggle | a folder with train_meta.parquet, train/ and sensor_geometry.csv | train/batch_<number>.parquet | angles of the origin; energy, is_track where there |
| graphnet_parquet | a folder with <table>/<table>_<number>.parquet, or merged/ with such | the parts | see `graphnet_columns` |
| graphnet_sqlite | a file .db, .sqlite or .sqlite3 | none: one file | see `graphnet_columns` |

Whatever the format, angles point to where the neutrino came from, and pulses of an event are sorted by time.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stablelit.errors import ConfigurationError, DataError, bad_argument, did_you_mean
from stablelit.families.neutrinos.geometry import DetectorGeometry, read_geometry
from stablelit.families.neutrinos.readers.graphnet_columns import Pointing
from stablelit.families.neutrinos.readers.graphnet_parquet import GraphnetFolder, tables_of
from stablelit.families.neutrinos.readers.graphnet_sqlite import GraphnetDatabase
from stablelit.families.neutrinos.readers.kaggle import KaggleFolder, Split
from stablelit.families.neutrinos.readers.packed import PackedFolder, is_packed
from stablelit.families.neutrinos.readers.source import EventSource

__all__ = ["FORMATS", "EventSource", "GraphnetDatabase", "GraphnetFolder", "KaggleFolder", "PackedFolder"]
__all__ += ["format_of", "open_source"]

FORMATS = ("packed", "kaggle", "graphnet_parquet", "graphnet_sqlite")
_DATABASES = (".db", ".sqlite", ".sqlite3")
_SQLITE_BEGINS = b"SQLite format 3\0"


def format_of(path: str | Path) -> str:
    """Which of `FORMATS` a path is.

    Raises:
        DataError: nothing there, or none of them; what was looked for is said.
    """
    path = Path(path)
    if not path.exists():
        near = did_you_mean(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise DataError(f"{path}: there is no such file or folder. {near}".rstrip())
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_SQLITE_BEGINS)) == _SQLITE_BEGINS or path.suffix.lower() in _DATABASES:
                return "graphnet_sqlite"
        raise DataError(f"{path}: is no SQLite database ({', '.join(_DATABASES)}). {_looked_for()}")
    if not path.is_dir():
        raise DataError(f"{path}: is a device or a pipe. {_looked_for()} Write what comes from it to a file first.")
    if is_packed(path):
        return "packed"
    if any((path / f"{split}_meta.parquet").is_file() or _has_batches(path / split) for split in ("train", "test")):
        return "kaggle"
    if tables_of(path):
        return "graphnet_parquet"
    there = ", ".join(sorted(p.name + "/" * p.is_dir() for p in path.iterdir())[:10]) or "nothing"
    raise DataError(f"{path}: is none of the formats. {_looked_for()} There is: {there}.")


def open_source(
    path: str | Path,
    format: str = "auto",
    batch_ids: Sequence[int] | None = None,
    geometry: str | Path | DetectorGeometry | None = None,
    split: Split = "train",
    pulse_table: str | None = None,
    truth_table: str | None = None,
    columns: Mapping[str, str] | None = None,
    pointing: Pointing = "auto",
) -> EventSource:
    """Opens events of any format; no pulse is read, but for the positions where there is no geometry.

    Args:
        path: a folder or a database.
        format: one of `FORMATS`, or "auto".
        batch_ids: of which files; None takes all. A database has none.
        geometry: of the detector: sensor_geometry.csv, a table of GraphNeT's, or a `DetectorGeometry`; None takes the
            format's own.
        split: of a Kaggle folder: "train" or "test".
        pulse_table: GraphNeT's table of pulses; None finds it.
        truth_table: GraphNeT's table of truth; None finds it.
        columns: GraphNeT's columns that are not the usual ones.
        pointing: what GraphNeT's angles point to: "origin", "momentum", or "auto" (by their names).

    Raises:
        DataError: a path that cannot be used.
        ConfigurationError: arguments that do not go with the format.
    """
    if format != "auto" and format not in FORMATS:
        raise bad_argument(
            "open_source", "format", format, "auto, " + ", ".join(FORMATS), did_you_mean(format, FORMATS)
        )
    if format == "auto" or not Path(path).exists():
        found = format_of(path)
        format = found if format == "auto" else format
    detector = read_geometry(geometry) if isinstance(geometry, str | Path) else geometry
    tables: dict[str, Any] = {"pulse_table": pulse_table, "truth_table": truth_table, "columns": columns}
    given = {name: value for name, value in tables.items() if value is not None}
    if given and not format.startswith("graphnet"):
        raise ConfigurationError(f"{path}: is of the format {format}, which has no {next(iter(given))}. Leave it out.")
    if split == "test" and format != "kaggle":
        raise ConfigurationError(f"{path}: is of the format {format}, which has no test/ files.")
    if format == "packed":
        if detector is not None:
            raise ConfigurationError(f"{path}: packed events have their detector with them. Leave geometry out.")
        return PackedFolder(path, batch_ids)
    if format == "kaggle":
        return KaggleFolder(path, batch_ids, split, detector)
    if format == "graphnet_parquet":
        return GraphnetFolder(path, batch_ids, pointing=pointing, geometry=detector, **tables)
    if batch_ids is not None:
        raise ConfigurationError(f"{path}: a database is one file and has no batch ids. Leave them out.")
    return GraphnetDatabase(path, pointing=pointing, geometry=detector, **tables)


def _has_batches(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("batch_*.parquet"), None) is not None


def _looked_for() -> str:
    return (
        "Looked for: packed.json; train_meta.parquet and train/batch_<number>.parquet (Kaggle); "
        "<table>/<table>_<number>.parquet, also in merged/ (GraphNeT); a .db file (GraphNeT)."
    )
