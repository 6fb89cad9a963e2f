"""The readers of events, and of the geometry of a detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stablelit.families.neutrinos.preparation import prepare
from stablelit.families.neutrinos.readers import open_source
from tests.families.neutrinos.graphnet_files import GraphnetTablesOnDisk
from tests.families.neutrinos.kaggle_files import KaggleFiles
from tests.fuzz.mutators import BYTES, JSON, NPY, TEXT, inserting
from tests.fuzz.target import Target

_SQL = inserting(
    ("CREATE TABLE", "CREATE VIEW", " AS SELECT ", "randomblob(99)", "zeroblob(1e9)", "WITH RECURSIVE", "''", '"')
)


def _kaggle(changed: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        KaggleFiles(folder / "data", sizes=(4, 3)).write()
        return [folder / "data" / changed]

    return write


def _packed(changed: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        KaggleFiles(folder / "kaggle", sizes=(4, 3)).write()
        prepare(str(folder / "kaggle"), str(folder / "data"))
        return [folder / "data" / changed]

    return write


def _sqlite(folder: Path) -> list[Path]:
    paths = [folder / "a.db", folder / "b.db"]
    for path, detector in zip(paths, ("icecube", "prometheus"), strict=True):
        GraphnetTablesOnDisk(detector, n_events=5).write_sqlite(path)
    return paths


def _graphnet(table: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        files = GraphnetTablesOnDisk("icecube", n_events=5)
        files.write_parquet(folder / "data", parts=2)
        name = files.names[table]
        return [folder / "data" / "merged" / name / f"{name}_0.parquet"]

    return write


def _read(path: Path) -> object:
    """All events of the folder or the file, file by file."""
    source = open_source(path if path.suffix == ".db" else next(p for p in path.parents if p.name == "data"))
    return [source.read(file) for file in range(len(source.files))]


TARGETS = (
    Target("neutrinos-kaggle-pulses", _kaggle("train/batch_1.parquet"), _read, BYTES, quick=20),
    Target("neutrinos-kaggle-table", _kaggle("train_meta.parquet"), _read, BYTES, quick=20),
    Target("neutrinos-geometry", _kaggle("sensor_geometry.csv"), _read, TEXT, quick=25),
    Target("neutrinos-sqlite", _sqlite, _read, (*BYTES, _SQL, _SQL)),
    Target("neutrinos-graphnet-pulses", _graphnet("pulses"), _read, BYTES, quick=20),
    Target("neutrinos-graphnet-truth", _graphnet("truth"), _read, BYTES, quick=20),
    Target("neutrinos-packed-header", _packed("packed.json"), _read, JSON, quick=25),
    Target("neutrinos-packed-begin", _packed("begin.npy"), _read, NPY, quick=25),
    Target("neutrinos-packed-time", _packed("time.npy"), _read, NPY, quick=15),
    Target("neutrinos-packed-azimuth", _packed("azimuth.npy"), _read, NPY, quick=15),
)
