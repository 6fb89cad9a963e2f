"""The columns that JetClass, JetClass-II and their kin share, whatever file they come in.

One row a jet. Of the particles (lists): ``part_px, part_py, part_pz`` and, where it is there, ``part_energy`` (GeV);
or, where there are no momenta, ``part_deta, part_dphi`` (rad) with ``part_pt`` (GeV). Of the jet: ``jet_eta`` where it
is there, and its class as ``jet_label`` or ``label`` (an integer; classes are called by it) or as one-hot columns
``label_QCD, label_Hbb, ...`` (classes are called by what follows ``label_``). Momenta are preferred to ``part_deta``.

Source: Qu, Li, Qian 2022 (arXiv:2202.03772), zenodo.org/records/6619768; Li et al. 2024 (arXiv:2405.12972).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.kinematics import RaggedJets

MOMENTA, ENERGY = ("part_px", "part_py", "part_pz"), "part_energy"
ANGLES = ("part_pt", "part_deta", "part_dphi")
LABELS, ONE_HOT, JET_ETA = ("jet_label", "label"), "label_", "jet_eta"


@dataclass(frozen=True)
class JetClassColumns:
    """Which columns of a file are read.

    Args:
        particles: of `MOMENTA` (and `ENERGY`) or `ANGLES`.
        labels: one integer column, the one-hot columns, or none.
        has_jet_eta: whether `JET_ETA` is there.
    """

    particles: tuple[str, ...]
    labels: tuple[str, ...]
    has_jet_eta: bool

    @classmethod
    def among(cls, found: Sequence[str], source: str) -> JetClassColumns:
        """Chooses from the columns that are there.

        Raises:
            DataError: neither momenta nor angles; near names are given.
        """
        if all(name in found for name in MOMENTA):
            particles = MOMENTA + ((ENERGY,) if ENERGY in found else ())
        elif all(name in found for name in ANGLES):
            particles = ANGLES
        else:
            missing = [name for name in MOMENTA if name not in found]
            others = [name for name in found if name not in (*MOMENTA, *ANGLES)]
            hints = " ".join(dict.fromkeys(filter(None, (did_you_mean(name, others) for name in missing))))
            raise DataError(
                f"{source}: has no column {', '.join(missing)}. Allowed: lists {', '.join(MOMENTA)} (and {ENERGY}), or "
                f"{', '.join(ANGLES)}. Found: {', '.join(found[:12]) or 'nothing'}"
                f"{', ...' if len(found) > 12 else ''}. {hints}".rstrip()
            )
        integer = [name for name in LABELS if name in found]
        one_hot = [name for name in found if name.startswith(ONE_HOT)]
        return cls(particles, tuple(integer[:1] or one_hot), JET_ETA in found)

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.particles, *self.labels, *([JET_ETA] if self.has_jet_eta else [])]

    def jets(
        self,
        counts: dict[str, NDArray[Any]],
        particles: dict[str, NDArray[Any]],
        scalars: dict[str, NDArray[Any]],
        source: str,
        first_jet: int,
    ) -> JetArrays:
        """The jets of some rows.

        Args:
            counts: ``(n,)`` lengths of the lists, by column.
            particles: ``(P,)`` the lists one after another, by column.
            scalars: ``(n,)`` by column.
            source: the file's name, for messages.
            first_jet: number of the first row.

        Raises:
            DataError: lists of unequal lengths, a label that is none, what `RaggedJets` refuses.
        """
        first, *others = self.particles
        for name in others:
            unequal = np.flatnonzero(counts[name] != counts[first])
            if len(unequal):
                row = unequal[0]
                raise DataError(
                    f"{source}: jet {first_jet + row} has {counts[first][row]} values of {first} but "
                    f"{counts[name][row]} of {name}. They must be as many: the file is damaged, or was cut by column."
                )
        for name, values in {**particles, **scalars}.items():
            if values.dtype.kind not in "fiub":
                raise DataError(f"{source}: {name} has values of type {values.dtype}. Allowed: numbers.")
        label, classes = self._labels(scalars, source, first_jet)
        ragged = RaggedJets.from_counts(counts[first], source, first_jet)
        build = ragged.from_momenta if first == MOMENTA[0] else ragged.from_angles
        eta = scalars[JET_ETA] if self.has_jet_eta else None
        return build({name: particles[name] for name in self.particles}, label, classes, eta)

    def _labels(
        self, scalars: dict[str, NDArray[Any]], source: str, first_jet: int
    ) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        if not self.labels:
            return None, ("jet",)
        if self.labels[0] in LABELS:
            values = scalars[self.labels[0]]
            wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values)) & (values >= 0)))
            if len(wrong):
                raise DataError(
                    f"{source}: jet {first_jet + wrong[0]} has {self.labels[0]}={values[wrong[0]]}. Allowed: integers "
                    f"of at least 0."
                )
            known, label = np.unique(values.astype(np.int64), return_inverse=True)
            return label.astype(np.int64), tuple(str(value) for value in known)
        one_hot = np.stack([scalars[name] for name in self.labels], axis=1) > 0
        wrong = np.flatnonzero(one_hot.sum(axis=1) != 1)
        if len(wrong):
            said = [name for name, yes in zip(self.labels, one_hot[wrong[0]], strict=True) if yes]
            raise DataError(
                f"{source}: jet {first_jet + wrong[0]} is of {len(said)} classes ({', '.join(said) or 'none'}). "
                f"Allowed: exactly one of {', '.join(self.labels)}."
            )
        return one_hot.argmax(axis=1), tuple(name.removeprefix(ONE_HOT) for name in self.labels)
