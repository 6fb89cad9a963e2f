"""JetNet's HDF5 files: ``particle_features`` (n, N, 4) and ``jet_features`` (n, 4).

The four particle features are etarel, phirel (rad), ptrel and mask; the four jet features pT (GeV), eta, mass (GeV)
and the number of particles. JetNet has one class a file and names it by the file (``g.hdf5``, ``q150.hdf5``); files
written here also have a data set ``label`` with an attribute ``classes``, which JetNet's own loader leaves alone.

Source: Kansal et al. 2023, JetNet (JOSS 8, 5789); data at zenodo.org/records/6975118 (30 particles).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from stablelit.errors import DataError, did_you_mean, missing_extra
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import existing_file, replacing

PARTICLES, JETS = "particle_features", "jet_features"
_CLASS_IN_NAME = re.compile(r"^([gqtwz])(?:\d+)?$")


def read_jetnet_hdf5(path: str | Path) -> JetArrays:
    """Reads a JetNet HDF5 file; the jets are not validated yet.

    Raises:
        DataError: no such file, a directory, not HDF5, truncated, other data sets inside, other shapes.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _h5py()
    path = existing_file(path)
    try:
        with h5py.File(path, "r") as file:
            return _from_file(path, file)
    except OSError as error:
        if "truncated" in str(error):
            raise DataError(
                f"{path}: the HDF5 file is truncated ({path.stat().st_size} bytes are there). The copy or download was "
                f"interrupted: fetch it again and compare its size. ({error})"
            ) from error
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}). Allowed: a JetNet file with {PARTICLES!r} and {JETS!r}. If "
            f"it is another format, give it its own suffix; if it is HDF5, it is damaged."
        ) from error


def write_jetnet_hdf5(path: str | Path, jets: JetArrays) -> None:
    """Writes a file that JetNet's loader and `read_jetnet_hdf5` read; it appears whole or not at all."""
    h5py = _h5py()
    features = np.concatenate([jets.particles, jets.mask[..., None].astype(np.float32)], axis=-1)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset(PARTICLES, data=features, compression="gzip", compression_opts=1)
        file.create_dataset(JETS, data=jets.jet)
        label = file.create_dataset("label", data=jets.label)
        label.attrs["classes"] = ",".join(jets.classes)


def _from_file(path: Path, file: Any) -> JetArrays:
    found = sorted(file.keys())
    for name in (PARTICLES, JETS):
        if name not in file or not hasattr(file[name], "shape"):
            raise DataError(
                f"{path}: has no data set {name!r}; this is not a JetNet file. Found: {', '.join(found) or 'nothing'}. "
                f"{did_you_mean(name, found)}".rstrip()
            )
    particles, jet = file[PARTICLES], file[JETS]
    if len(particles.shape) != 3 or particles.shape[-1] != 4:
        raise DataError(
            f"{path}: {PARTICLES!r} has shape {particles.shape}. Allowed: (jets, particles, 4) with etarel, phirel, "
            f"ptrel, mask in this order."
        )
    if len(jet.shape) != 2 or jet.shape[-1] != 4:
        raise DataError(
            f"{path}: {JETS!r} has shape {jet.shape}. Allowed: (jets, 4) with pt, eta, mass, "
            f"num_particles in this order."
        )
    if len(jet) != len(particles):
        raise DataError(
            f"{path}: {len(particles)} jets in {PARTICLES!r} but {len(jet)} in {JETS!r}. They must be as many."
        )
    for name in (PARTICLES, JETS):
        if file[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: {name!r} has values of type {file[name].dtype}. Allowed: numbers.")
    values = np.asarray(particles, dtype=np.float32)
    # masks are 0 or 1 in most files, -0.5 or 0.5 in some
    mask = values[..., 3] > 0
    label = np.zeros(len(values), dtype=np.int64)
    by_name = _CLASS_IN_NAME.match(path.stem)
    classes: tuple[str, ...] = (by_name[1],) if by_name else ("jet",)
    if "label" in file and "classes" in file["label"].attrs:
        label = np.asarray(file["label"], dtype=np.int64)
        classes = tuple(str(file["label"].attrs["classes"]).split(","))
    return JetArrays(values[..., :3], mask, np.asarray(jet, dtype=np.float32), label, classes)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "hdf5", "Reading or writing JetNet HDF5 files") from error
    return h5py
