"""When the photons of a TOY particle arrive: the geometry of unscattered light, and the delay that scattering adds.

With l the way along the particle's flight from its point at time 0 to a sensor, d the distance across and s the
distance to the point::

    track     t_geo = (l + d tan(theta_c)) / c                light that left the track at the Cherenkov angle
    cascade   t_geo = s n_g / c                               light from a point
    delay     ~ Gamma(w / 33.3 m, 1 / (1 / 557 ns + (c / n_g) / 98 m)),   w = d / sin(theta_c) or s

and a normal jitter of 3 ns on top. The gamma distribution of delays is Pandel's, with the constants of AMANDA's ice
(J. Ahrens et al. (AMANDA), NIM A 524 (2004) 169, arXiv:astro-ph/0407044).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablelit.families.neutrinos.light_in_ice import GROUP_INDEX, SPEED_OF_LIGHT
from stablelit.families.neutrinos.light_yield import ABSORPTION_M, SIN_CHERENKOV, TAN_CHERENKOV
from stablelit.families.neutrinos.particles import Particles

SCATTERING_M, SCATTERING_TIME_NS = 33.3, 557.0
JITTER_NS = 3.0
DELAY_SCALE_NS = 1.0 / (1.0 / SCATTERING_TIME_NS + SPEED_OF_LIGHT / GROUP_INDEX / ABSORPTION_M)

Floats = NDArray[np.float64]


def unscattered_arrival(
    particles: Particles, particle: NDArray[np.int64], position: NDArray[np.floating]
) -> tuple[Floats, Floats]:
    """When light of a particle reaches a position if it does not scatter, and the way it takes.

    Args:
        particles: N of them.
        particle: ``(P,)`` which of them each photon is of.
        position: ``(P, 3)`` metres, where each photon is seen.

    Returns:
        Times ``(P,)`` ns since the particle was at its point, and ways of the light ``(P,)`` m.
    """
    away = position - particles.point[particle]
    along = np.einsum("pi,pi->p", away, particles.frames()[:, 0][particle])
    squared = np.einsum("pi,pi->p", away, away)
    across = np.sqrt(np.maximum(squared - along * along, 0.0))
    distance, is_track = np.sqrt(squared), particles.is_track[particle]
    of_track = (along + across * TAN_CHERENKOV) / SPEED_OF_LIGHT
    of_cascade = distance * (GROUP_INDEX / SPEED_OF_LIGHT)
    return np.where(is_track, of_track, of_cascade), np.where(is_track, across / SIN_CHERENKOV, distance)


def draw_delay(way: Floats, rng: np.random.Generator) -> Floats:
    """The delays ``(P,)`` ns of photons by scattering on ways ``(P,)`` m, and the jitter of the sensor's clock."""
    return rng.standard_gamma(way / SCATTERING_M) * DELAY_SCALE_NS + JITTER_NS * rng.standard_normal(len(way))
