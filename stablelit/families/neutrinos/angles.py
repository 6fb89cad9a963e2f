r"""Directions on the sphere: unit vectors, azimuth and zenith, and the angle between two directions.

The unit vector points to where the neutrino *came from*; the particle flies along its opposite:

.. math:: n = (\cos\phi \sin\theta, \sin\phi \sin\theta, \cos\theta),
   \qquad \phi \in [0, 2\pi) \text{ azimuth}, \quad \theta \in [0, \pi] \text{ zenith}.

Every function takes torch tensors or numpy arrays and returns the same kind. Half precision is computed, and returned,
in float32.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)

LEAST_LENGTH = 1e-8
"""A vector shorter than this is divided by this, not by its length: the zero vector stays zero."""


def direction_of(azimuth: Array, zenith: Array) -> Array:
    """The unit vector to where the neutrino came from.

    Args:
        azimuth: ``(...)`` radians.
        zenith: ``(...)`` radians.

    Returns:
        ``(..., 3)``.

    >>> direction_of(np.array(0.0), np.array(0.0))
    array([0., 0., 1.])
    """
    if isinstance(azimuth, Tensor):
        sine = torch.sin(zenith)
        return torch.stack([torch.cos(azimuth) * sine, torch.sin(azimuth) * sine, torch.cos(zenith)], dim=-1)
    sine = np.sin(zenith)
    return np.stack([np.cos(azimuth) * sine, np.sin(azimuth) * sine, np.cos(zenith)], axis=-1)


def azimuth_zenith_of(direction: Array) -> tuple[Array, Array]:
    r"""Azimuth and zenith of vectors of any length.

    .. math:: \phi = \operatorname{atan2}(y, x) \bmod 2\pi, \qquad \theta = \operatorname{atan2}(\sqrt{x^2 + y^2}, z).

    Nothing is divided by the length, so that one that is not exactly 1 makes no error (``acos(clamp(z, -1, 1))`` gives
    a wrong zenith for such vectors, in silence). For losses use `angle_between`: azimuth has no gradient at the poles.

    Args:
        direction: ``(..., 3)``.

    Returns:
        Azimuth ``(...)`` in [0, 2 pi) and zenith ``(...)`` in [0, pi], radians; in float32 too, where the numbers next
        to 2 pi and pi are above them. At a pole azimuth is that of the zeros' signs, at the zero vector as well.
    """
    direction = _at_least_single(direction)
    x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
    if isinstance(direction, Tensor):
        azimuth, zenith = torch.atan2(y, x), torch.atan2(torch.hypot(x, y), z)
        azimuth = torch.where(azimuth < 0, azimuth + 2 * math.pi, azimuth)
        # a hair below 0 rounds up to the whole turn, which is 0
        azimuth = torch.where(azimuth >= 2 * math.pi, azimuth - 2 * math.pi, azimuth)
        return azimuth, zenith.clamp(max=_largest_below_pi(direction.dtype == torch.float32))
    azimuth, zenith = np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)
    turn = azimuth.dtype.type(2 * math.pi)
    azimuth = np.where(azimuth < 0, azimuth + turn, azimuth)
    azimuth = np.where(azimuth >= turn, azimuth - turn, azimuth)
    return azimuth, np.minimum(zenith, zenith.dtype.type(_largest_below_pi(zenith.dtype == np.float32)))


def unit_vector(vector: Array) -> Array:
    """``f / max(|f|, 1e-8)``: the direction that a network's three numbers stand for; the zero vector stays zero.

    Args:
        vector: ``(..., 3)``.
    """
    vector = _at_least_single(vector)
    if isinstance(vector, Tensor):
        return vector / length(vector).clamp_min(LEAST_LENGTH)[..., None]
    return vector / np.maximum(length(vector), LEAST_LENGTH)[..., None]


def angle_between(u: Array, v: Array) -> Array:
    r"""The angle between unit vectors, in radians.

    .. math:: 2 \operatorname{atan2}(|u - v|, |u + v|)

    Exact to the rounding of the vectors at every angle, where an arc cosine of a float32 knows steps of 5e-4 rad; its
    gradient has length 1 everywhere and is 0, never NaN, where the vectors are equal or opposite. Against the zero
    vector it is pi / 2, which is what a random guess scores.

    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?" (2006), 12.

    Args:
        u: ``(..., 3)`` of length 1.
        v: ``(..., 3)`` of length 1.

    Returns:
        ``(...)`` in [0, pi].
    """
    u, v = _at_least_single(u), _at_least_single(v)
    arctangent = torch.atan2 if isinstance(u, Tensor) else np.arctan2
    return 2 * arctangent(length(u - v), length(u + v))


def length(vector: Array) -> Array:
    """``|f|``, with gradient 0 at the zero vector, where that of a square root is infinite.

    Args:
        vector: ``(..., 3)``.
    """
    if isinstance(vector, Tensor):
        square = vector.square().sum(dim=-1)
        zero = square == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())
    return np.sqrt(np.square(vector).sum(axis=-1))


def _at_least_single(vector: Array) -> Array:
    if isinstance(vector, Tensor):
        return vector if vector.dtype in (torch.float32, torch.float64) else vector.float()
    return vector if vector.dtype in (np.float32, np.float64) else vector.astype(np.float64)


def _largest_below_pi(single: bool) -> float:
    return float(np.nextafter(np.float32(math.pi), np.float32(0))) if single else math.pi
