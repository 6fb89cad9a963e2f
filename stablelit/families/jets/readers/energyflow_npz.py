"""EnergyFlow's quark and gluon jets, ``QG_jets*.npz``: ``X`` (n, M, 4) and ``y`` (n,).

The four columns of X are pT (GeV), rapidity, azimuth (rad) and PDG id, zeros behind the last particle; y is 1 for a
quark and 0 for a gluon. Particles are taken as massless, so that rapidity is pseudorapidity; the PDG id is not used.
The arrays are packed whole in the file, so the whole of X is in memory while it is read (0.4 GB for 100,000 jets).

Source: Komiske, Metodiev, Thaler 2019 (arXiv:1810.05165); data at zenodo.org/records/3164691.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stablelit.errors import DataError
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.kinematics import RaggedJets
from stablelit.families.jets.readers.files import PIECE
from stablelit.families.jets.readers.plain_npz import opened_npz

CLASSES = ("g", "q")
COLUMNS = ("pt", "y", "phi")


def is_energyflow_npz(path: Path) -> bool:
    """Whether an array X is in the file."""
    with opened_npz(path) as file:
        return "X" in file.files


def read_energyflow_npz(path: Path) -> Iterator[JetArrays]:
    """The jets of an EnergyFlow file, relative to their axis, some thousands at a time.

    Raises:
        DataError: no such file, damaged, X or y of another shape, other labels than 0 and 1, what `RaggedJets` refuses.
    """
    with opened_npz(path) as file:
        found = ", ".join(f"{name} {file.shape(name)}" for name in sorted(file.files))
        particles, label = file["X"], file["y"] if "y" in file.files else None
    if particles.ndim != 3 or particles.shape[-1] not in (3, 4) or particles.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: X has shape {particles.shape} and type {particles.dtype}. Allowed: numbers of shape "
            f"(jets, particles, 4) with pt, y, phi, pdgid in this order. Found: {found}."
        )
    if 0 in particles.shape[:2]:
        raise DataError(f"{path}: no jets (X has shape {particles.shape}).")
    if label is not None:
        if label.shape != particles.shape[:1]:
            raise DataError(f"{path}: y has shape {label.shape}. Allowed: {particles.shape[:1]}, one for each jet.")
        wrong = np.flatnonzero((label != 0) & (label != 1))
        if len(wrong):
            raise DataError(f"{path}: jet {wrong[0]} has y={label[wrong[0]]}. Allowed: 0 (gluon) and 1 (quark).")
    for start in range(0, len(particles), PIECE):
        piece = particles[start : start + PIECE]
        mask = piece[..., 0] != 0
        behind = ~mask & (piece[..., 1:3] != 0).any(axis=-1)
        if behind.any():
            jet, particle = (int(i) for i in np.argwhere(behind)[0])
            raise DataError(
                f"{path}: jet {start + jet}, particle {particle} has pt=0 but a position. Allowed: positive pt, or "
                f"zeros throughout for a particle that is not there. Set its pt, or all of it to 0."
            )
        jets = RaggedJets.from_mask(mask, str(path), start)
        values = {name: piece[..., column][mask] for column, name in enumerate(COLUMNS)}
        if label is None:
            yield jets.from_angles(values)
        else:
            yield jets.from_angles(values, label[start : start + PIECE], CLASSES)
