"""The particles of the TOY events: where they come from, where they are, their energy and their kind.

Kinds are the two that a neutrino telescope tells apart: a track (a muon, that crosses the detector) and a cascade (an
electron or hadrons, that end within metres).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOG10_ENERGY_BEGIN, LOG10_ENERGY_MEAN, LOG10_ENERGY_END = 2.0, 0.7, 4.5
TRACK_HALF_WIDTH_M, CASCADE_HALF_WIDTH_M = 650.0, 450.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Particles:
    """N particles.

    Args:
        azimuth: ``(N,)`` rad in [0, 2 pi), where each came from.
        zenith: ``(N,)`` rad in [0, pi].
        point: ``(N, 3)`` metres, where each is at time 0: a point of the track, the cascade's place.
        energy: ``(N,)`` GeV.
        is_track: ``(N,)`` bool.
    """

    azimuth: Floats
    zenith: Floats
    point: Floats
    energy: Floats
    is_track: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.azimuth)

    def frames(self) -> Floats:
        """``(N, 3, 3)``: the direction of flight ``-n`` and two unit vectors across it, one a row."""
        cos_a, sin_a, cos_z, sin_z = (f(x) for x in (self.azimuth, self.zenith) for f in (np.cos, np.sin))
        along = np.stack([-cos_a * sin_z, -sin_a * sin_z, -cos_z], axis=1)
        across = np.stack([cos_a * cos_z, sin_a * cos_z, -sin_z], axis=1)
        level = np.stack([-sin_a, cos_a, np.zeros_like(cos_a)], axis=1)
        return np.stack([along, across, level], axis=1)


def draw_particles(n: int, track_share: float, rng: np.random.Generator) -> Particles:
    """Isotropic particles: ``log10(E / GeV) = min(2 + Exp(0.7), 4.5)``, points uniform in a cube.

    The cube reaches 650 m from the centre in x, y and z for tracks and 450 m for cascades.

    Args:
        n: how many.
        track_share: the share of tracks, each particle by itself.
        rng: the source of randomness.
    """
    azimuth, cosine = rng.uniform(0.0, 2.0 * np.pi, n), rng.uniform(-1.0, 1.0, n)
    energy = 10.0 ** np.minimum(LOG10_ENERGY_BEGIN + rng.exponential(LOG10_ENERGY_MEAN, n), LOG10_ENERGY_END)
    is_track = rng.random(n) < track_share
    half_width = np.where(is_track, TRACK_HALF_WIDTH_M, CASCADE_HALF_WIDTH_M)[:, None]
    return Particles(azimuth, np.arccos(cosine), rng.uniform(-1.0, 1.0, (n, 3)) * half_width, energy, is_track)
