r"""What a neutrino's direction is guessed to be without a network: a straight line through the pulses, or a constant.

The line fit treats light as a plane wave that travels with a constant velocity: the one that minimises
:math:`\sum_i |r_i - r - v t_i|^2`,

.. math:: v = \frac{\langle r t \rangle - \langle r \rangle \langle t \rangle}
   {\langle t^2 \rangle - \langle t \rangle^2}.

It says much about tracks and nothing about cascades.

Source: J. Ahrens et al. (AMANDA), NIM A 524 (2004) 169, arXiv:astro-ph/0407044.
"""

from __future__ import annotations

import numpy as np

from stablelit.errors import DataError


def line_fit(position: np.ndarray, time: np.ndarray, use: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """The direction that a straight line through the pulses of each event comes from, ``-v / |v|``.

    Args:
        position: ``(P, 3)`` of the pulses' sensors, in any one unit.
        time: ``(P,)`` of the pulses, in any one unit.
        use: ``(P,)`` bool: which pulses count, those of HLC. An event with fewer than two takes all its pulses.
        begin: ``(E + 1,)`` pulses of event i are ``begin[i] ... begin[i + 1] - 1``.

    Returns:
        ``(E, 3)`` float64 unit vectors towards the source; zeros for an event that has no line: no pulses, all of them
        at one time, or a velocity of 0.

    Raises:
        DataError: shapes that do not belong together.
    """
    begin = np.asarray(begin)
    _check(position, time, use, begin)
    counts = np.diff(begin)
    direction = np.zeros((len(counts), 3))
    there = np.flatnonzero(counts)
    if not len(there):
        return direction
    # reduceat has no empty segments: those go by the events that have pulses
    counts, first = counts[there], begin[there]
    used = use[begin[0] : begin[-1]]
    first = first - begin[0]
    few = np.add.reduceat(used, first, dtype=np.int64) < 2
    used = used | np.repeat(few, counts)
    t = time[begin[0] : begin[-1]].astype(np.float64)
    # times since the first that counts: where all are equal they are zeros exactly, and so is their spread
    t -= np.repeat(np.minimum.reduceat(np.where(used, t, np.inf), first), counts)
    number = used.astype(np.float64)
    total = number * t
    direction[there] = line_through_sums(number, total, total * t, position[begin[0] : begin[-1]], first)
    return direction


def line_through_sums(
    number: np.ndarray, total: np.ndarray, squares: np.ndarray, position: np.ndarray, first: np.ndarray
) -> np.ndarray:
    r"""The line fit from what is known of places: :math:`v \propto \sum_s r_s (T_s - \bar t N_s)`.

    Args:
        number: ``(D,)``, N, the pulses that count at each place.
        total: ``(D,)``, T, the sum of their times.
        squares: ``(D,)``, the sum of the squares of their times.
        position: ``(D, 3)``.
        first: ``(E,)`` places of event i are ``first[i] ... first[i + 1] - 1``; one at least.

    Returns:
        ``(E, 3)``, as `line_fit`.
    """
    mean = np.add.reduceat(total, first) / np.add.reduceat(number, first)
    mean_of_place = np.repeat(mean, np.diff(first, append=len(number)))
    spread = np.add.reduceat(squares - mean_of_place * total, first)
    velocity = np.add.reduceat(position * (total - mean_of_place * number)[:, None], first)
    speed = np.linalg.norm(velocity, axis=1)
    none = (spread <= 0) | (speed == 0)
    return np.asarray(-velocity / np.where(none, np.inf, speed)[:, None])


def constant_direction(directions: np.ndarray) -> np.ndarray:
    """The one direction that is nearest to all: their mean, normalised; it has the largest mean cosine to them.

    What a network does not beat, it has not looked at the pulses for.

    Args:
        directions: ``(E, 3)`` unit vectors, of the training set.

    Returns:
        ``(3,)`` float64; straight up, ``(0, 0, 1)``, where the directions cancel.

    Raises:
        DataError: no directions, another shape, NaN or infinity.
    """
    directions = np.asarray(directions, dtype=np.float64)
    if directions.ndim != 2 or directions.shape[1] != 3 or not len(directions):
        raise DataError(f"constant_direction: shape {directions.shape}. Allowed: (events, 3), one event at least.")
    mean = directions.mean(axis=0)
    if not np.isfinite(mean).all():
        event = int(np.flatnonzero(~np.isfinite(directions).all(axis=1))[0])
        raise DataError(f"constant_direction: event {event} is {directions[event].tolist()}. Allowed: finite numbers.")
    size = np.linalg.norm(mean)
    return mean / size if size > 1e-12 else np.array([0.0, 0.0, 1.0])


def _check(position: np.ndarray, time: np.ndarray, use: np.ndarray, begin: np.ndarray) -> None:
    shapes = position.shape, time.shape, use.shape
    if shapes != ((len(time), 3), (len(time),), (len(time),)) or use.dtype != np.bool_:
        raise DataError(
            f"line_fit: position {shapes[0]}, time {shapes[1]}, use {shapes[2]} {use.dtype}. "
            f"Allowed: (P, 3), (P,) and (P,) bool."
        )
    if begin.ndim != 1 or not len(begin) or begin[0] < 0 or begin[-1] > len(time) or (np.diff(begin) < 0).any():
        raise DataError(f"line_fit: begin of shape {begin.shape} for {len(time)} pulses. Allowed: (E + 1,), ascending.")
