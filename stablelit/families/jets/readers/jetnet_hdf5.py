"""JetNet's HDF5 files: ``particle_features`` (n, N, 4) and ``jet_features`` (n, 4).

The four particle features are etarel, phirel (rad), ptrel and mask; the four jet features pT (GeV), eta, mass (GeV)
and the number of particles. JetNet has one class a file and names it by the file (``g.hdf5``, ``q150.hdf5``); files
written here also have a data set ``label`` (n,) with an attribute ``classes``, which JetNet's own loader leaves alone.
Without the attribute classes are called by their numbers.

Source: Kansal et al. 2023, JetNet (JOSS 8, 5789); data at zenodo.org/records/6975118 (30 particles).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.files import replacing
from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import PIECE, imported_h5py, opened_hdf5
from stablelit.families.jets.readers.hdf5_data import attribute, data_set, is_there, rows_at_a_time

PARTICLES, JETS = "particle_features", "jet_features"
WANTED = f"a JetNet file with {PARTICLES!r} and {JETS!r}, or a pandas table with E_0, PX_0, PY_0, PZ_0, ..."
_CLASS_IN_NAME = re.compile(r"^([gqtwz])(?:\d+)?$")


def is_jetnet_hdf5(path: Path) -> bool:
    """Whether one of JetNet's data sets is in the file."""
    with opened_hdf5(path, WANTED) as file:
        return is_there(file, PARTICLES) or is_there(file, JETS)


def read_jetnet_hdf5(path: Path) -> Iterator[JetArrays]:
    """The jets of a JetNet HDF5 file, some thousands at a time; they are not validated yet.

    Raises:
        DataError: no such file, a directory, not HDF5, truncated, other data sets inside, other shapes.
        MissingDependencyError: h5py is not installed.
    """
    with opened_hdf5(path, WANTED) as file:
        particles, jets = _checked(path, file)
        label, classes = _labels(path, file, len(particles))
        rows = rows_at_a_time(particles, jets, most=PIECE)
        for start in range(0, max(len(label), 1), rows):
            piece = slice(start, start + rows)
            values = np.asarray(particles[piece], dtype=np.float32)
            mask = _mask(path, values[..., 3], start)
            jet = np.asarray(jets[piece], dtype=np.float32)
            yield JetArrays(values[..., :3], mask, jet, label[piece], classes)


def write_jetnet_hdf5(path: str | Path, jets: JetArrays) -> None:
    """Writes a file that JetNet's loader and `read_jetnet_hdf5` read; it appears whole or not at all."""
    h5py = imported_h5py()
    features = np.concatenate([jets.particles, jets.mask[..., None].astype(np.float32)], axis=-1)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset(PARTICLES, data=features, compression="gzip", compression_opts=1)
        file.create_dataset(JETS, data=jets.jet)
        label = file.create_dataset("label", data=jets.label)
        # of a fixed length: one that is not lies in a heap, which costs a look at the whole file to be trusted
        label.attrs["classes"] = np.bytes_(",".join(jets.classes).encode())


def _checked(path: Path, file: Any) -> tuple[Any, Any]:
    """The data sets of particles and of jets."""
    found = sorted(file.keys())
    for name in (PARTICLES, JETS):
        if not is_there(file, name) or not hasattr(file[name], "shape"):
            raise DataError(
                f"{path}: has no data set {name!r}; this is neither a JetNet file nor a pandas table. Found: "
                f"{', '.join(found) or 'nothing'}. {did_you_mean(name, found)}".rstrip()
            )
    particles, jet = (data_set(path, file, name) for name in (PARTICLES, JETS))
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
    for name, values in ((PARTICLES, particles), (JETS, jet)):
        if values.dtype.kind not in "fiu":
            raise DataError(f"{path}: {name!r} has values of type {values.dtype}. Allowed: numbers.")
    return particles, jet


def _labels(path: Path, file: Any, n_jets: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if not is_there(file, "label"):
        by_name = _CLASS_IN_NAME.match(path.stem)
        return np.zeros(n_jets, dtype=np.int64), (by_name[1],) if by_name else ("jet",)
    given = data_set(path, file, "label")
    if given.shape != (n_jets,) or given.dtype.kind not in "iu":
        raise DataError(
            f"{path}: 'label' has shape {given.shape} and type {given.dtype}. Allowed: whole numbers of shape "
            f"({n_jets},), one for each jet."
        )
    label = np.asarray(given).astype(np.int64)
    if "classes" in given.attrs:
        return label, tuple(_text(attribute(path, given, "classes")).split(","))
    known, label = np.unique(label, return_inverse=True)
    return label.astype(np.int64), tuple(str(number) for number in known)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _mask(path: Path, values: NDArray[np.float32], first_jet: int) -> NDArray[np.bool_]:
    """Masks are 0 or 1 in most files, -0.5 or 0.5 in some."""
    low, high = (-0.5, 0.5) if (np.abs(values) == 0.5).all() else (0.0, 1.0)
    wrong = (values != low) & (values != high)
    if wrong.any():
        jet, particle = (int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"{path}: jet {first_jet + jet}, particle {particle} has mask={values[jet, particle]:g} "
            f"({int(wrong.any(axis=1).sum())} of {len(values)} jets are affected). Allowed: 0 and 1, or -0.5 and 0.5 "
            f"throughout. Look whether the four features are etarel, phirel, ptrel, mask in this order."
        )
    return values == high
