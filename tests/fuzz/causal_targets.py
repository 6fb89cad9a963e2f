"""The readers of tables of sensors, of true graphs and of lists of edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stablelit.families.causal.edges import EdgeList
from stablelit.families.causal.readers import PanelSettings, read_panel
from stablelit.families.causal.truth import read_truth
from tests.fuzz.mutators import BYTES, NPY, TEXT, within_zip
from tests.fuzz.target import Target, one_file

_NAMES = ("a", "b", "c")
_ROWS = "\n".join(f"{i},{i * i % 7},{-i / 3:.3f}" for i in range(12))
_CSV = f"a,b,c\n{_ROWS}\n".encode()
_GERMAN = _CSV.replace(b",", b";").replace(b".", b",")
_DATED = b"t;a;b\n" + b"".join(b"2020-01-0%d 00:00:00;%d;%d\n" % (i, i, i * i) for i in range(1, 9))
_EDGES = b"source,target,weight,confidence,verdict\na,b,0.5,0.9,correct\nb,c,-1.25,,\n"
_TETRAD = b"Graph Nodes:\na;b;c\n\nGraph Edges:\n1. a --> b\n2. c <-- b\n"


def _arrays(folder: Path) -> list[Path]:
    values = np.arange(36.0).reshape(12, 3) % 7
    truth = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.savez(
        folder / "a.npz", values=values, names=np.array(_NAMES), mask=values > 1, time=np.arange(12.0), truth=truth
    )
    np.savez_compressed(folder / "b.npz", X=values)
    return [folder / "a.npz", folder / "b.npz"]


def _array(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", np.arange(36.0).reshape(12, 3) % 7)
    fields = np.zeros(8, dtype=[("a", "<f8"), ("b", "<i4")])
    fields["a"], fields["b"] = np.arange(8), np.arange(8) ** 2 % 5
    np.save(folder / "b.npy", fields)
    return [folder / "a.npy", folder / "b.npy"]


def _parquet(folder: Path) -> list[Path]:
    columns = {
        "a": np.arange(12),
        "b": np.arange(12.0) % 5,
        "c": [str(i) for i in range(12)],
        "d": [True, None, False] * 4,
    }
    pq.write_table(pa.table(columns), folder / "a.parquet")
    pq.write_table(pa.table(columns), folder / "b.parquet", compression="none", use_dictionary=False)
    return [folder / "a.parquet", folder / "b.parquet"]


def _matrix(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    return [folder / "a.npy"]


def _truth(path: Path) -> object:
    return read_truth(path, _NAMES)


TARGETS = (
    Target("causal-text", one_file("a.csv", _CSV, _GERMAN, _CSV.replace(b",", b" ")), read_panel, TEXT),
    Target("causal-dated", one_file("a.csv", _DATED), lambda p: read_panel(p, PanelSettings(time_column="t")), TEXT),
    Target("causal-npz", _arrays, read_panel, within_zip(NPY)),
    Target("causal-npy", _array, read_panel, NPY),
    Target("causal-parquet", _parquet, read_panel, BYTES),
    Target(
        "causal-truth-text",
        one_file("a.txt", _TETRAD, b"Cause,Effect\na,b\n", b",a,b,c\na,0,1,0\nb,0,0,0\nc,0,1,0\n"),
        _truth,
        TEXT,
    ),
    Target("causal-truth-npy", _matrix, _truth, NPY),
    Target("causal-edges", one_file("edges.csv", _EDGES), EdgeList.from_csv, TEXT),
)
