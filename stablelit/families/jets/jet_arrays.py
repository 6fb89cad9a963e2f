"""Jets as plain numpy arrays: what generators make, readers read and writers write.

Coordinates are relative to the jet, as in JetNet: ``etarel = eta_i - eta_jet``, ``phirel = phi_i - phi_jet`` (rad) and
``ptrel = pT_i / pT_jet``. Particles are padded to a common number; `mask` says which are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError

PARTICLE_FEATURES = ("etarel", "phirel", "ptrel")
JET_FEATURES = ("pt", "eta", "mass", "n_particles")

# The particles of a jet carry at most the whole pT of the jet; a median above this is no fraction, it is GeV.
MAX_MEDIAN_PTREL_SUM = 1.5
# A jet's pT-weighted centre lies at the origin of relative coordinates; a median this far off is an absolute position.
MAX_MEDIAN_CENTRE = 0.5
# Wider than what the largest collider's energy gives a particle of 100 MeV; cosh of it is still a number
MAX_ABS_ETA = 15.0
# An angle is what it is modulo 2 pi, but nobody counts it twice round: these are degrees
MAX_ABS_PHI_RAD = 4 * np.pi


@dataclass(frozen=True)
class JetArrays:
    """Padded jets.

    Args:
        particles: ``(n, N, 3)`` float32: etarel, phirel (rad), ptrel; zero where `mask` is False.
        mask: ``(n, N)`` bool: which particles are there.
        jet: ``(n, 4)`` float32: pT (GeV), eta, mass (GeV), number of particles kept.
        label: ``(n,)`` int64: index into `classes`.
        classes: the names of the classes.
    """

    particles: NDArray[np.float32]
    mask: NDArray[np.bool_]
    jet: NDArray[np.float32]
    label: NDArray[np.int64]
    classes: tuple[str, ...] = ("jet",)

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def n_particles(self) -> int:
        """How many particles a jet is padded to."""
        return int(self.particles.shape[1])

    def take(self, indices: Sequence[int] | NDArray[Any] | slice) -> JetArrays:
        """The jets at `indices`, in that order."""
        return replace(
            self,
            particles=self.particles[indices],
            mask=self.mask[indices],
            jet=self.jet[indices],
            label=self.label[indices],
        )

    def of_classes(self, classes: Sequence[str]) -> JetArrays:
        """The jets of `classes`, in their order, labelled by their place in `classes`."""
        place = np.full(len(self.classes), -1)
        for new, name in enumerate(classes):
            place[self.classes.index(name)] = new
        label = place[self.label]
        return replace(self, label=label, classes=tuple(classes)).take(label >= 0)

    def without_empty(self) -> tuple[JetArrays, int]:
        """The jets that have a particle, and how many had none."""
        occupied = self.mask.any(axis=1)
        n_empty = int((~occupied).sum())
        return (self, 0) if n_empty == 0 else (self.take(occupied), n_empty)

    def hardest(self, n_particles: int) -> tuple[JetArrays, float]:
        """Keeps the `n_particles` of largest pT, hardest first, padding with absent ones where there are fewer.

        Returns:
            The jets, and the share of all pT that was cut away.
        """
        pt = np.where(self.mask, self.particles[..., 2], -np.inf)
        if (pt[:, :-1] >= pt[:, 1:]).all():
            # most files are ordered already, and looking costs little; a view would keep what is cut in memory
            particles, mask = self.particles[:, :n_particles].copy(), self.mask[:, :n_particles].copy()
        else:
            order = np.argsort(-pt, axis=1, kind="stable")[:, :n_particles]
            particles = np.take_along_axis(self.particles, order[..., None], axis=1)
            mask = np.take_along_axis(self.mask, order, axis=1)
        total = float(self.particles[..., 2][self.mask].sum())
        lost = 1.0 - float(particles[..., 2][mask].sum()) / total if total > 0 else 0.0
        missing = n_particles - particles.shape[1]
        if missing > 0:
            particles = np.pad(particles, ((0, 0), (0, missing), (0, 0)))
            mask = np.pad(mask, ((0, 0), (0, missing)))
        jet = self.jet.copy()
        jet[:, 3] = mask.sum(axis=1)
        return replace(self, particles=particles, mask=mask, jet=jet), max(lost, 0.0)

    def check(self, source_name: str, first_jet: int = 0) -> None:
        """Checks what must hold in any coordinates, GeV or fractions, absolute or relative.

        Args:
            source_name: what the messages call these jets: a file's name, or the generator's.
            first_jet: the number that the messages give the first of them.

        Raises:
            DataError: wrong shapes, no jets, NaN or infinity (the first jet, particle and feature are named), a present
                particle without positive pT, an absent one with pT, an angle that is none.
        """
        self._check_shapes(source_name, first_jet)
        self._check_finite(source_name, first_jet)
        ptrel = self.particles[..., 2]
        self._refuse(
            source_name,
            first_jet,
            self.mask & (ptrel <= 0),
            "has ptrel={value:g} though its mask says it is there",
            "A particle has positive pT: set its mask to 0 or mend its pT.",
        )
        self._refuse(
            source_name,
            first_jet,
            ~self.mask & (ptrel != 0),
            "has ptrel={value:g} though its mask says it is absent",
            "Set its mask to 1, or its features to 0.",
        )

        for place, most, remedy in (
            (0, MAX_ABS_ETA, "No particle flies that near to the beam: mend its position."),
            (1, MAX_ABS_PHI_RAD, "These look like degrees: give radians."),
        ):
            values = self.particles[..., place]
            far = self.mask & (np.abs(values) > most)
            if far.any():
                jet, particle = (int(i) for i in np.argwhere(far)[0])
                raise DataError(
                    f"{source_name}: jet {first_jet + jet}, particle {particle} has {PARTICLE_FEATURES[place]}="
                    f"{values[jet, particle]:.4g} ({int(far.any(axis=1).sum())} of {len(self)} jets are affected). "
                    f"Allowed: within +-{most:.3g}. {remedy}"
                )

    def validate(self, source_name: str, first_jet: int = 0) -> JetArrays:
        """Checks the arrays and returns them with phirel wrapped to [-pi, pi] and absent particles set to zero.

        Args:
            source_name: what the messages call these jets: a file's name, or the generator's.
            first_jet: the number that the messages give the first of them.

        Raises:
            DataError: what `check` refuses, no particle in any jet, pT in GeV instead of a fraction, absolute angles.
        """
        self.check(source_name, first_jet)
        if not self.mask.any():
            raise DataError(f"{source_name}: all {len(self)} jets are empty. At least one jet must have a particle.")
        if looks_like_gev(self):
            raise DataError(
                f"{source_name}: the particles of a jet add up to ptrel={_median_sum(self):.4g} (median over jets); "
                f"this looks like GeV. Allowed: fractions of the jet's pT, which add up to about 1. Divide each pT by "
                f"the jet's."
            )
        for place, is_absolute in enumerate(looks_absolute(self)):
            if is_absolute:
                median = float(np.median(np.abs(centres(self)[place][self.mask.any(axis=1)])))
                raise DataError(
                    f"{source_name}: the pT-weighted centre of a jet lies at |{PARTICLE_FEATURES[place]}|={median:.3g} "
                    f"(median over jets); this looks like an absolute position. Allowed: coordinates relative to the "
                    f"jet axis, centred at 0 within {MAX_MEDIAN_CENTRE:g}. Subtract the jet's own eta and phi."
                )
        particles = self.particles.astype(np.float32, copy=True)
        # phirel is an angle: only its value modulo 2 pi has a meaning
        particles[..., 1] -= 2 * np.pi * np.round(particles[..., 1] / (2 * np.pi))
        particles[~self.mask] = 0.0
        return replace(self, particles=particles)

    def _check_shapes(self, source_name: str, first_jet: int) -> None:
        n_jets = len(self.particles)
        if self.particles.ndim != 3 or self.particles.shape[-1] != 3:
            raise DataError(
                f"{source_name}: particles have shape {self.particles.shape}. Allowed: (jets, particles, 3)."
            )
        if n_jets == 0 or self.particles.shape[1] == 0:
            raise DataError(f"{source_name}: no jets (particles have shape {self.particles.shape}).")
        wanted = {"mask": self.particles.shape[:2], "jet": (n_jets, 4), "label": (n_jets,)}
        for name, shape in wanted.items():
            if (found := getattr(self, name).shape) != shape:
                raise DataError(f"{source_name}: {name} has shape {found}. Allowed: {shape}, to go with the particles.")
        if self.label.min() < 0 or self.label.max() >= len(self.classes):
            row = int(np.flatnonzero((self.label < 0) | (self.label >= len(self.classes)))[0])
            raise DataError(
                f"{source_name}: jet {first_jet + row} has label {self.label[row]}. Allowed: 0 to "
                f"{len(self.classes) - 1}, an index into the classes {', '.join(self.classes)}."
            )

    def _check_finite(self, source_name: str, first_jet: int) -> None:
        bad = ~np.isfinite(self.particles)
        if bad.any():
            jet, particle, feature = (int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{source_name}: jet {first_jet + jet}, particle {particle} has {PARTICLE_FEATURES[feature]}="
                f"{self.particles[jet, particle, feature]} ({int(bad.any(axis=(1, 2)).sum())} of {len(self)} jets "
                f"have such values). Allowed: finite numbers. Remove these jets or mend them at their source."
            )
        bad = ~np.isfinite(self.jet)
        if bad.any():
            jet, feature = (int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{source_name}: jet {first_jet + jet} has {JET_FEATURES[feature]}={self.jet[jet, feature]}. "
                f"Allowed: finite numbers."
            )
        # a jet without particles, which is dropped later, has no momentum
        without_pt = (self.jet[:, 0] <= 0) & self.mask.any(axis=1)
        if without_pt.any():
            jet = int(np.flatnonzero(without_pt)[0])
            raise DataError(f"{source_name}: jet {first_jet + jet} has pt={self.jet[jet, 0]:g} GeV. Allowed: positive.")

    def _refuse(self, source_name: str, first_jet: int, bad: NDArray[np.bool_], what: str, remedy: str) -> None:
        if bad.any():
            jet, particle = (int(i) for i in np.argwhere(bad)[0])
            value = float(self.particles[jet, particle, 2])
            raise DataError(
                f"{source_name}: jet {first_jet + jet}, particle {particle} {what.format(value=value)} "
                f"({int(bad.any(axis=1).sum())} of {len(self)} jets are affected). {remedy}"
            )


def joined(parts: Sequence[JetArrays]) -> JetArrays:
    """All jets of `parts` in their order, padded to the most particles; classes are matched by their names.

    Classes are in the order of their first appearance, numbers in that of numbers.
    """
    if len(parts) == 1:
        return parts[0]
    n_particles = max(part.n_particles for part in parts)
    classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    if all(name.isdigit() for name in classes):
        classes = tuple(sorted(classes, key=int))

    def padded(values: NDArray[Any]) -> NDArray[Any]:
        missing = n_particles - values.shape[1]
        return np.pad(values, ((0, 0), (0, missing)) + ((0, 0),) * (values.ndim - 2)) if missing else values

    return JetArrays(
        np.concatenate([padded(part.particles) for part in parts]),
        np.concatenate([padded(part.mask) for part in parts]),
        np.concatenate([part.jet for part in parts]),
        np.concatenate([np.array([classes.index(name) for name in part.classes])[part.label] for part in parts]),
        classes,
    )


def looks_like_gev(jets: JetArrays) -> bool:
    """Whether the particles of a jet add up to more than fractions of its pT can (median over jets)."""
    return bool(_median_sum(jets) > MAX_MEDIAN_PTREL_SUM)


def looks_absolute(jets: JetArrays) -> tuple[bool, bool]:
    """Whether eta, and whether phi, are positions in the detector: centres of jets far from 0 (median over jets)."""
    occupied = jets.mask.any(axis=1)
    if not occupied.any():
        return False, False
    eta, phi = (bool(np.median(np.abs(c[occupied])) > MAX_MEDIAN_CENTRE) for c in centres(jets))
    return eta, phi


def centres(jets: JetArrays) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pT-weighted mean eta and the pT-weighted circular mean phi of each jet, ``(n,)`` each; 0 for empty jets."""
    pt = np.where(jets.mask, jets.particles[..., 2], 0.0)
    total = pt.sum(axis=1)
    eta = (pt * jets.particles[..., 0]).sum(axis=1) / np.where(total > 0, total, 1.0)
    phi = jets.particles[..., 1]
    return eta, np.arctan2((pt * np.sin(phi)).sum(axis=1), (pt * np.cos(phi)).sum(axis=1))


def _median_sum(jets: JetArrays) -> float:
    occupied = jets.mask.any(axis=1)
    return float(np.median(jets.particles[..., 2].sum(axis=1)[occupied])) if occupied.any() else 0.0
