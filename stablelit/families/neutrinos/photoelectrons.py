"""What the sensors of the TOY events register: photoelectrons of light, noise, and the charge of each.

Every photoelectron is a pulse of its own, however near the next one is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

READOUT_BEGIN_NS, READOUT_END_NS = -4000, 6000
CHARGE_LOG_MEAN, CHARGE_LOG_WIDTH, CHARGE_STEP = -0.06, 0.35, 0.025


def draw_photoelectrons(
    mean: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A Poisson number of photoelectrons in every sensor, each by itself.

    Drawn as the Poisson number of all of a particle, shared out in proportion to the means: the same distribution,
    and the work is that of the photoelectrons, not of the sensors.

    Args:
        mean: ``(N, S)``, of each particle in each sensor.
        rng: the source of randomness.

    Returns:
        Particle and sensor of each photoelectron, ``(P,)`` each.
    """
    n, n_sensors = mean.shape
    cumulative = np.cumsum(mean.reshape(-1), dtype=np.float64)
    end = cumulative[n_sensors - 1 :: n_sensors]
    begin = np.concatenate([[0.0], end[:-1]])
    particle = np.repeat(np.arange(n), rng.poisson(end - begin))
    at = begin[particle] + rng.random(len(particle)) * (end - begin)[particle]
    place = np.searchsorted(cumulative, at, side="right")
    # rounding may carry the largest draws over the end
    return particle, np.minimum(place - particle * n_sensors, n_sensors - 1)


def draw_noise(
    n: int, n_sensors: int, rate_hz: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Noise pulses: ``Poisson(rate * 10 us * S)`` of each of n events, uniform over sensors and readout.

    The readout is IceCube's: from 4 microseconds before the particle is at its point to 6 after.

    Returns:
        Event, sensor and time (whole ns) of each pulse, ``(P,)`` each.
    """
    length_s = (READOUT_END_NS - READOUT_BEGIN_NS) * 1e-9
    event = np.repeat(np.arange(n), rng.poisson(rate_hz * length_s * n_sensors, n))
    sensor = rng.integers(n_sensors, size=len(event))
    return event, sensor, rng.integers(READOUT_BEGIN_NS, READOUT_END_NS, size=len(event))


def draw_charge(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Charges ``(n,)`` of single photoelectrons: ``LogNormal(-0.06, 0.35)`` in steps of 0.025."""
    steps = np.rint(rng.lognormal(CHARGE_LOG_MEAN, CHARGE_LOG_WIDTH, n) / CHARGE_STEP)
    # half a step lies twelve standard deviations below the mean: no charge is 0
    return (steps * CHARGE_STEP).astype(np.float32)
