"""The readers of jets."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch_geometric.data import Data

from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers import read_jets, write_jets
from tests.fuzz.mutators import BYTES, NPY, inserting, within_zip
from tests.fuzz.target import Target

_N, _PARTICLES = 6, 5
_OPCODES = inserting(
    ("(lp0\n", "cos\nsystem\n", "c__builtin__\neval\n", "g0\n", "a.", "R", "\x80\x04]", "0" * 50, "l", "}")
)


def _momenta() -> np.ndarray:
    """Of jets that fly along x, (E, px, py, pz) in GeV."""
    random = np.random.default_rng(0)
    p = np.array([90.0, 0, 0]) + random.normal(0, 5, (_N, _PARTICLES, 3))
    return np.concatenate([np.linalg.norm(p, axis=-1, keepdims=True), p], axis=-1)


def _jets() -> JetArrays:
    particles = np.zeros((_N, _PARTICLES, 3), dtype=np.float32)
    particles[..., 0] = np.linspace(-0.1, 0.1, _PARTICLES)
    particles[..., 2] = 1 / _PARTICLES
    mask = np.ones((_N, _PARTICLES), dtype=bool)
    jet = np.tile(np.array([500.0, 0.1, 80.0, _PARTICLES], dtype=np.float32), (_N, 1))
    return JetArrays(particles, mask, jet, np.arange(_N) % 2, ("g", "q"))


def _npz(folder: Path) -> list[Path]:
    write_jets(folder / "a.npz", _jets())
    return [folder / "a.npz"]


def _energyflow(folder: Path) -> list[Path]:
    x = np.tile(np.array([100.0, 0.1, 0.2, 211.0]), (_N, _PARTICLES, 1))
    x[..., 1] += np.linspace(-0.1, 0.1, _PARTICLES)
    np.savez_compressed(folder / "a.npz", X=x, y=np.arange(_N) % 2)
    return [folder / "a.npz"]


def _jetnet(folder: Path) -> list[Path]:
    write_jets(folder / "a.h5", _jets())
    return [folder / "a.h5"]


def _pandas(folder: Path) -> list[Path]:
    columns = [f"{name}_{i}" for i in range(_PARTICLES) for name in ("E", "PX", "PY", "PZ")]
    rows = np.zeros(
        _N, dtype=[("index", "<i8"), ("values_block_0", "<f4", (len(columns),)), ("values_block_1", "<i8", (1,))]
    )
    rows["values_block_0"] = _momenta().reshape(_N, -1)
    for name, protocol in (("table.h5", 0), ("table4.h5", 4)):
        with h5py.File(folder / name, "w") as file:
            group = file.create_group("table")
            group.attrs["pandas_type"] = np.bytes_(b"frame_table")
            table = group.create_dataset("table", data=rows, chunks=(2,), compression="gzip")
            table.attrs["values_block_0_kind"] = np.void(pickle.dumps(columns, protocol=protocol))
            table.attrs["values_block_1_kind"] = np.void(pickle.dumps(["is_signal_new"], protocol=protocol))
    with h5py.File(folder / "fixed.h5", "w") as file:
        group = file.create_group("table")
        group.attrs["pandas_type"], group.attrs["nblocks"] = np.bytes_(b"frame"), 2
        group["block0_items"], group["block0_values"] = np.array(columns, dtype="S8"), rows["values_block_0"]
        group["block1_items"], group["block1_values"] = np.array(["is_signal_new"], dtype="S13"), np.zeros((_N, 1))
    return [folder / name for name in ("table.h5", "table4.h5", "fixed.h5")]


def _parquet(folder: Path) -> list[Path]:
    names = ("part_energy", "part_px", "part_py", "part_pz")
    lists = {name: list(_momenta()[..., i].astype(np.float32)) for i, name in enumerate(names)}
    for i, compression in enumerate(("snappy", "none")):
        table = pa.table({**lists, "jet_label": np.arange(_N) % 3})
        pq.write_table(table, folder / f"a{i}.parquet", compression=compression)
    return [folder / "a0.parquet", folder / "a1.parquet"]


def _graphs(folder: Path) -> list[Path]:
    edges = torch.tensor([[0, 1], [1, 2]])
    graphs = [
        Data(x=torch.tensor(x, dtype=torch.float32), edge_index=edges, y=torch.tensor([i % 2]))
        for i, x in enumerate(_momenta())
    ]
    angles = [Data(x=g.x[:, :3].abs() / 50, y=1) for g in graphs]
    torch.save(graphs, folder / "a.pt")
    torch.save({"graphs": angles}, folder / "b.pt")
    torch.save(graphs[:2], folder / "c.pt", _use_new_zipfile_serialization=False)
    return [folder / name for name in ("a.pt", "b.pt", "c.pt")]


TARGETS = (
    Target("jets-npz", _npz, read_jets, within_zip(NPY)),
    Target("jets-energyflow", _energyflow, read_jets, within_zip(NPY)),
    Target("jets-jetnet-hdf5", _jetnet, read_jets, BYTES),
    Target("jets-pandas-hdf5", _pandas, read_jets, (*BYTES, _OPCODES, _OPCODES)),
    Target("jets-parquet", _parquet, read_jets, BYTES),
    Target("jets-graphs-pt", _graphs, read_jets, within_zip((*BYTES, _OPCODES)), quick=25),
)
