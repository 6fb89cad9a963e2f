"""From the momenta that files hold to the relative coordinates of `JetArrays`, for all jets of a file at once.

With pT_i, eta_i, phi_i of the particles of a jet::

    jet momentum = sum_i p_i        pT_jet, eta_jet and mass^2 = (sum E)^2 - |sum p|^2 (GeV)
    eta_axis = sum_i pT_i eta_i / sum_i pT_i
    phi_axis = atan2(sum_i pT_i sin phi_i, sum_i pT_i cos phi_i)      the circular mean, also across phi = pi
    etarel = eta_i - eta_axis,  phirel = phi_i - phi_axis in (-pi, pi],  ptrel = pT_i / pT_jet

Particles whose energy a file does not give are taken as massless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.data.limits import check_unpacked
from stablelit.errors import DataError
from stablelit.families.jets.jet_arrays import (
    MAX_MEDIAN_PTREL_SUM,
    JetArrays,
    centres,
    looks_absolute,
    looks_like_gev,
)

Floats = NDArray[np.float64]
# No jet algorithm is run at a few GeV: a median below this is a sum of fractions
MIN_MEDIAN_JET_PT_GEV = 2.5


@dataclass(frozen=True)
class RaggedJets:
    """Which jet, and which place in it, each of P particles has; the particles of one jet follow each other.

    Args:
        jet: ``(P,)`` rising, 0 to `n_jets` - 1; a jet may have no particle.
        slot: ``(P,)`` place in the jet.
        n_jets: how many jets.
        source: what messages call them: the file's name.
        first_jet: number of the first of them in the file, for messages.
    """

    jet: NDArray[np.int64]
    slot: NDArray[np.int64]
    n_jets: int
    source: str
    first_jet: int = 0

    @classmethod
    def from_counts(cls, counts: NDArray[Any], source: str, first_jet: int = 0) -> RaggedJets:
        """From the number of particles of each jet, ``(n,)``."""
        counts = np.asarray(counts, dtype=np.int64)
        jet = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        return cls(jet, np.arange(len(jet)) - first[jet], len(counts), source, first_jet)

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], source: str, first_jet: int = 0) -> RaggedJets:
        """From the mask of padded particles, ``(n, N)``; the values are then those at ``array[mask]``."""
        jet, slot = np.nonzero(mask)
        return cls(jet, slot, len(mask), source, first_jet)

    def from_momenta(
        self,
        momenta: dict[str, NDArray[Any]],
        label: NDArray[Any] | None = None,
        classes: Sequence[str] = ("jet",),
        jet_eta: NDArray[Any] | None = None,
    ) -> JetArrays:
        """Jets from px, py, pz and, where the file has it, energy (GeV).

        Args:
            momenta: ``(P,)`` each, in this order, under the names that messages use.
            label: ``(n,)`` index into `classes`; None is one class.
            classes: their names.
            jet_eta: ``(n,)`` where the file gives it.

        Raises:
            DataError: values that are not finite, a particle without transverse momentum or with negative energy,
                pT that are fractions, particles that do not fly together.
        """
        momenta = {name: np.asarray(values, dtype=np.float64) for name, values in momenta.items()}
        self._refuse_not_finite(momenta)
        (name_x, p_x), (name_y, p_y), (_, p_z), *rest = momenta.items()
        pt = np.hypot(p_x, p_y)
        self._refuse(pt <= 0, f"has {name_x}={name_y}=0", "A particle of a jet has transverse momentum: remove it.")
        for name, energy in rest:
            self._refuse(energy <= 0, f"has {name}={{value:g}}", "Allowed: positive energy. Mend it.", energy)
        energy = rest[0][1] if rest else np.hypot(pt, p_z)
        return self._assemble(pt, np.arcsinh(p_z / pt), np.arctan2(p_y, p_x), energy, label, classes, jet_eta)

    def from_angles(
        self,
        values: dict[str, NDArray[Any]],
        label: NDArray[Any] | None = None,
        classes: Sequence[str] = ("jet",),
        jet_eta: NDArray[Any] | None = None,
    ) -> JetArrays:
        """Jets from pT (GeV), eta and phi (rad), absolute or relative to any axis; see `from_momenta`."""
        values = {name: np.asarray(array, dtype=np.float64) for name, array in values.items()}
        self._refuse_not_finite(values)
        (name_pt, pt), (_, eta), (_, phi) = values.items()
        self._refuse(
            pt <= 0,
            f"has {name_pt}={{value:g}}",
            "A particle has positive pT. If the file holds standardised features, undo that with the means and "
            "standard deviations of before: coordinates are scaled here, by training jets only.",
            pt,
        )
        return self._assemble(pt, eta, phi, pt * np.cosh(eta), label, classes, jet_eta)

    def _assemble(
        self,
        pt: Floats,
        eta: Floats,
        phi: Floats,
        energy: Floats,
        label: NDArray[Any] | None,
        classes: Sequence[str],
        jet_eta: NDArray[Any] | None,
    ) -> JetArrays:
        p_x, p_y, p_z = (self._sum(v) for v in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)))
        jet_pt = np.hypot(p_x, p_y)
        mass = np.sqrt(np.maximum(self._sum(energy) ** 2 - jet_pt**2 - p_z**2, 0.0))
        occupied = jet_pt > 0
        safe_pt = np.where(occupied, jet_pt, 1.0)
        if occupied.any() and (median := float(np.median(jet_pt[occupied]))) < MIN_MEDIAN_JET_PT_GEV:
            raise DataError(
                f"{self.source}: the particles of a jet add up to pT={median:.3g} (median over jets); these look like "
                f"fractions of the jet's pT, and the jet's own pT is not in the file. Allowed: pT in GeV. Multiply "
                f"by the jet's pT, or use a format that has both (JetNet HDF5, stablelit's .npz)."
            )
        total = self._sum(pt)
        if occupied.any() and (spread := float(np.median((total / safe_pt)[occupied]))) > MAX_MEDIAN_PTREL_SUM:
            raise DataError(
                f"{self.source}: the pT of the particles add up to {spread:.3g} times the pT of their sum (median over "
                f"jets): they do not fly together. Allowed: one jet a row; these look like whole events, or their "
                f"angles are not in radians. Cluster them into jets first."
            )
        eta_axis = self._sum(pt * eta) / np.where(total > 0, total, 1.0)
        d_phi = phi - np.arctan2(p_y, p_x)[self.jet]
        n_particles = int(self.slot.max()) + 1 if len(self.slot) else 1
        # one long jet pads all the others
        padded, given = self.n_jets * n_particles * 13, 8 * 4 * len(pt)
        check_unpacked(
            self.source, padded, given, f"{self.n_jets} jets of up to {n_particles} particles", "Leave out the longest."
        )
        particles = np.zeros((self.n_jets, n_particles, 3), dtype=np.float32)
        mask = np.zeros((self.n_jets, n_particles), dtype=bool)
        mask[self.jet, self.slot] = True
        place = self.jet * n_particles + self.slot
        flat = particles.reshape(-1, 3)
        flat[place, 0] = eta - eta_axis[self.jet]
        flat[place, 1] = d_phi - 2 * np.pi * np.round(d_phi / (2 * np.pi))
        flat[place, 2] = pt / safe_pt[self.jet]
        if jet_eta is None:
            jet_eta = np.arcsinh(p_z / safe_pt)
        jet = np.stack([jet_pt, jet_eta, mass, mask.sum(axis=1)], axis=1).astype(np.float32)
        if label is None:
            label = np.zeros(self.n_jets, dtype=np.int64)
        return JetArrays(particles, mask, jet, np.asarray(label, dtype=np.int64), tuple(classes))

    def _sum(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.jet, weights=values, minlength=self.n_jets), dtype=np.float64)

    def _refuse_not_finite(self, values: dict[str, NDArray[Any]]) -> None:
        for name, array in values.items():
            self._refuse(
                ~np.isfinite(array),
                f"has {name}={{value}}",
                "Allowed: finite numbers. Remove these jets or mend them at their source.",
                array,
            )

    def _refuse(self, bad: NDArray[np.bool_], what: str, remedy: str, values: NDArray[Any] | None = None) -> None:
        if not bad.any():
            return
        at = int(np.flatnonzero(bad)[0])
        if values is not None:
            what = what.format(value=values[at])
        raise DataError(
            f"{self.source}: jet {self.first_jet + int(self.jet[at])}, particle {int(self.slot[at])} {what} "
            f"({len(np.unique(self.jet[bad]))} of {self.n_jets} jets are affected). {remedy}"
        )


def needed_conversion(jets: JetArrays) -> frozenset[str]:
    """What of `jets` is not relative to the jet: "pt" (it is GeV), "axis" (positions are absolute), both or nothing."""
    needed = {"pt"} if looks_like_gev(jets) else set()
    return frozenset(needed | ({"axis"} if any(looks_absolute(jets)) else set()))


def made_relative(jets: JetArrays, conversion: frozenset[str], source: str) -> JetArrays:
    """`jets` with pT divided by the jet's own and with the pT-weighted axis subtracted, as `conversion` says.

    Raises:
        DataError: GeV, but the jets' own pT in the file is not that of their particles.
    """
    if not conversion:
        return jets
    particles = jets.particles.astype(np.float32, copy=True)
    if "axis" in conversion:
        eta, phi = centres(jets)
        particles[..., 0] -= eta[:, None]
        d_phi = particles[..., 1] - phi[:, None]
        particles[..., 1] = d_phi - 2 * np.pi * np.round(d_phi / (2 * np.pi))
    if "pt" in conversion:
        total = particles[..., 2].sum(axis=1)
        known = (jets.jet[:, 0] > 0) & (total > 0)
        ratio = float(np.median(total[known] / jets.jet[known, 0])) if known.any() else np.inf
        # the hardest thirty carry nine tenths of the pT of a jet of a hundred
        if not 0.5 < ratio < 1.5:
            raise DataError(
                f"{source}: the particles of a jet add up to pT={float(np.median(total)):.4g} (median over jets); "
                f"this looks like GeV, but the jets' own pT is {float(np.median(jets.jet[:, 0])):.4g} GeV, so that no "
                f"fraction can be made of it. Allowed: fractions of the jet's pT, or GeV for both. Mend the jets' pT."
            )
        particles[..., 2] /= np.where(jets.jet[:, :1] > 0, jets.jet[:, :1], 1.0)
    particles[~jets.mask] = 0.0
    return replace(jets, particles=particles)
