"""From positions in a file to sensors of a detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.neutrinos.geometry import ICECUBE_CENTRE_DEPTH_M, ICECUBE_SENSORS, DetectorGeometry

NEAR_M = 1.0
"""Two positions this near are one sensor: files round them, and sensors are metres apart."""
_FAR_FROM_CENTRE_M = 1000.0
_MILLIMETRES, _HALF_RANGE = 1000.0, 1 << 20

Floats = NDArray[np.float64]


def distinct(position: Floats, where: str) -> Floats:
    """The distinct positions among ``(P, 3)``, m, to the millimetre; by x, y, and z from the top.

    Raises:
        DataError: a position that is not finite.
    """
    bad = ~np.isfinite(position).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{where}: row {row}: the position is {position[row].tolist()} ({int(bad.sum())} rows are such). Allowed: "
            f"finite metres. Drop such rows."
        )
    rounded = np.unique(np.round(position * _MILLIMETRES).astype(np.int64) * [1, 1, -1], axis=0)
    return rounded * [1, 1, -1] / _MILLIMETRES


def detector_of(position: Floats, where: str) -> tuple[DetectorGeometry, Floats, str]:
    """A detector whose sensors are the distinct positions of a file.

    Returns:
        The detector, the positions of its sensors in the file, and what was done. A detector that lies more than 1 km
        from the origin (positions below the surface) is moved to it.
    """
    places = distinct(position, where)
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    told = f"no geometry was given: the {len(places)} distinct positions of pulses are taken as the sensors"
    if np.linalg.norm(middle) > _FAR_FROM_CENTRE_M:
        told += f", moved by {np.round(-middle, 1).tolist()} m to the origin"
    else:
        middle = np.zeros(3)
    return DetectorGeometry.of_positions(places - middle), places, told


class SensorFinder:
    """Finds the sensor at a position.

    Positions that lie 1 km and more below those of IceCube's sensors are counted from the surface, as Prometheus does,
    and are moved up, as `read_geometry` moves such a geometry.

    Args:
        places: ``(S, 3)``, m, positions of the sensors.

    Attributes:
        depth: by how much deep positions are moved up, m; 0 where they are not.
    """

    def __init__(self, places: Floats) -> None:
        self.places = np.asarray(places, dtype=np.float64)
        centred = len(self.places) == ICECUBE_SENSORS and self.places[:, 2].min() > -_FAR_FROM_CENTRE_M
        self.depth = ICECUBE_CENTRE_DEPTH_M if centred else 0.0
        self._keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._sensors: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __call__(self, position: Floats, where: str) -> NDArray[np.int64]:
        """The sensors ``(P,)`` at positions ``(P, 3)``, m.

        Raises:
            DataError: a position with no sensor within a metre.
        """
        if not np.isfinite(position).all():
            distinct(position, where)
        if self.depth:
            deep = position[:, 2] < -_FAR_FROM_CENTRE_M
            position = np.stack([position[:, 0], position[:, 1], position[:, 2] + self.depth * deep], axis=1)
        key = _key(position)
        new = np.setdiff1d(key, self._keys)
        if len(new):
            _, first = np.unique(key, return_index=True)
            first = first[np.isin(key[first], new)]
            self._learn(key[first], position[first], where)
        return self._sensors[np.searchsorted(self._keys, key)]

    def _learn(self, key: NDArray[np.int64], position: Floats, where: str) -> None:
        sensors = np.empty(len(key), dtype=np.int64)
        # a few thousand positions once a data set; a few hundred at a time keep the distances small
        for at in range(0, len(key), 256):
            squared = ((position[at : at + 256, None] - self.places[None]) ** 2).sum(axis=2)
            nearest = squared.argmin(axis=1)
            distance = np.sqrt(squared[np.arange(len(nearest)), nearest])
            if distance.max() > NEAR_M:
                worst = int(distance.argmax())
                raise DataError(
                    f"{where}: a pulse lies at {position[at + worst].tolist()} m, {distance[worst]:.1f} m from the "
                    f"nearest of {len(self.places)} sensors. Allowed: {NEAR_M:g} m. Is it the geometry of another "
                    f"detector, or are depths counted from the surface? geometry=null takes the sensors of the file."
                )
            sensors[at : at + 256] = nearest
        keys = np.concatenate([self._keys, key])
        order = np.argsort(keys)
        self._keys, self._sensors = keys[order], np.concatenate([self._sensors, sensors])[order]


def _key(position: Floats) -> NDArray[np.int64]:
    # 21 bits an axis, of centimetres: 10 km each way
    cells = np.clip(np.round(position * 100.0).astype(np.int64) + _HALF_RANGE, 0, 2 * _HALF_RANGE - 1)
    return np.asarray((cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2])
