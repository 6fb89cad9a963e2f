"""TOY drawings without end: a class is a number, and the number says of which strokes it is made.

Class k is drawn from a seed of its own, so it is the same drawing whatever else is asked for: 2 to 5 strokes, each a
line, an arc, an ellipse, a polyline, a Bezier curve, a wave or a spiral between control points. An instance moves
every control point, turns, scales and stretches the whole, lets the pen wobble, and loses a stroke now and then.

How hard that is for raw pixels (32 px, less their mean, to unit length; which of one example each of five classes is
nearest; chance 0.20; 100 classes of 20 instances, 600 episodes of 15 queries a class, mean over three seeds):

    jitter      0       0.05    0.10    0.15    0.20
    accuracy    0.89    0.86    0.70    0.54    0.43

Without jitter it is the lost strokes alone: a drawing that lacks one has another bounding box.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.strokes import Strokes
from stablelit.functional.schedules import check_count, check_number

LOST_STROKES = 0.06
FEWEST_STROKES, MOST_STROKES = 2, 5
# what a jitter of 1 does: standard deviations in units of the drawing's square, radians and logarithms of scales
CONTROL_POINTS, TURN, STRETCH, WOBBLE = 0.65, 1.1, 0.85, 0.17
# sines and cosines of a stroke's wobble, along both axes; a turn, a shear and two stretches
WOBBLE_WAVES, POSE = 3, 4

Floats = NDArray[np.float64]


def _line(t: Floats, c: Floats, u: Floats) -> Floats:
    return c[:, :1] + t[:, None] * (c[:, 3:] - c[:, :1])


def _polyline(t: Floats, c: Floats, u: Floats) -> Floats:
    corner = np.minimum((3 * t).astype(int), 2)
    return c[:, corner] + (3 * t - corner)[:, None] * (c[:, corner + 1] - c[:, corner])


def _bezier(t: Floats, c: Floats, u: Floats) -> Floats:
    weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3], axis=1)
    return weights @ c


def _around(angle: Floats, c: Floats) -> Floats:
    """Of the ellipse about the first control point whose conjugate radii point half-way to the next two."""
    return c[:, :1] + 0.5 * (
        np.cos(angle)[:, None] * (c[:, 1:2] - c[:, :1]) + np.sin(angle)[:, None] * (c[:, 2:3] - c[:, :1])
    )


def _arc(t: Floats, c: Floats, u: Floats) -> Floats:
    return _around(2 * math.pi * u[0] + t * math.pi * (0.5 + u[1]), c)


def _ellipse(t: Floats, c: Floats, u: Floats) -> Floats:
    return _around(2 * math.pi * (u[0] + t), c)


def _wave(t: Floats, c: Floats, u: Floats) -> Floats:
    along = c[:, 3:] - c[:, :1]
    across = along[..., ::-1] * [-1.0, 1.0]
    swing = (0.1 + 0.2 * u[1]) * np.sin(2 * math.pi * (1.5 + 2 * u[0]) * t)
    return c[:, :1] + t[:, None] * along + swing[:, None] * across


def _spiral(t: Floats, c: Floats, u: Floats) -> Floats:
    angle = 2 * math.pi * (u[0] + t * (1.5 + 1.5 * u[1]))
    return c[:, :1] + t[:, None] * (_around(angle, c) - c[:, :1])


# each from t (P,) in [0, 1], control points (n, 4, 2) of n instances and two numbers in [0, 1] of its class, and with
# how many points it is drawn
CURVES: tuple[tuple[Callable[[Floats, Floats, Floats], Floats], int], ...] = (
    (_line, 6),
    (_arc, 10),
    (_ellipse, 16),
    (_polyline, 10),
    (_bezier, 12),
    (_wave, 20),
    (_spiral, 24),
)


def generate_strokes(
    n_classes: int, per_class: int, seed: int = 0, jitter: float = 0.15, first_class: int = 0
) -> tuple[Strokes, NDArray[np.int64]]:
    """TOY drawings as strokes, class after class.

    Class k and its instance i are the same drawings whatever `n_classes`, `per_class` and `first_class` are.

    Args:
        n_classes: classes `first_class`, `first_class` + 1, ...
        per_class: instances of each.
        seed: another seed has other classes.
        jitter: how much instances of a class differ; the module's table says how hard that is.
        first_class: number of the first class; what is trained on and what is tested can be disjoint ranges.

    Returns:
        The strokes of ``n_classes * per_class`` drawings, about in the unit square, and ``(n,)`` int64, each drawing's
        class less `first_class`.

    Raises:
        ConfigurationError: an argument outside its range.
    """
    owner = "generate_strokes"
    n_classes, per_class = check_count(owner, "n_classes", n_classes, 1), check_count(owner, "per_class", per_class, 1)
    seed, first_class = check_count(owner, "seed", seed, 0), check_count(owner, "first_class", first_class, 0)
    jitter = check_number(owner, "jitter", jitter, at_least=0.0, at_most=1.0)
    parts = [_instances(seed, first_class + k, per_class, jitter) for k in range(n_classes)]
    points, begins, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.repeat(np.arange(n_classes, dtype=np.int64), per_class)
    return Strokes(points.astype(np.float32), begins, offsets), labels


def generate_sketches(
    n_classes: int, per_class: int, seed: int = 0, jitter: float = 0.15, first_class: int = 0
) -> Sketches:
    """TOY drawings as strokes, with classes named `drawn-0000` by their number; arguments as for `generate_strokes`."""
    strokes, labels = generate_strokes(n_classes, per_class, seed, jitter, first_class)
    classes = [f"drawn-{first_class + k:04d}" for k in range(n_classes)]
    places = [f"toy:{name}:{i}" for name in classes for i in range(per_class)]
    return Sketches(None, strokes, labels, classes, None, places)


def _instances(seed: int, number: int, n: int, jitter: float) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """All points of n instances of a class, which of them begin a stroke, and how many points each instance has."""
    of_class = np.random.default_rng([seed, number])
    n_strokes = int(of_class.integers(FEWEST_STROKES, MOST_STROKES + 1))
    kinds = of_class.integers(len(CURVES), size=n_strokes)
    controls, constants = of_class.random((n_strokes, 4, 2)), of_class.random((n_strokes, 2))
    # a row an instance, drawn row after row: whoever asks for more instances gets the same first ones
    width = n_strokes * (8 + 4 * WOBBLE_WAVES) + POSE
    normal = np.random.default_rng([seed, number, 1]).standard_normal((n, width))
    uniform = np.random.default_rng([seed, number, 2]).random((n, n_strokes))
    moved, wobble, pose = np.split(normal, [8 * n_strokes, width - POSE], axis=1)
    controls = controls + jitter * CONTROL_POINTS * moved.reshape(n, n_strokes, 4, 2)
    wobble = jitter * WOBBLE * wobble.reshape(n, n_strokes, 2, 2, WOBBLE_WAVES)
    strokes = []
    for s, kind in enumerate(kinds):
        curve, n_points = CURVES[kind]
        t = np.linspace(0.0, 1.0, n_points)
        phase = 2 * math.pi * np.arange(1, WOBBLE_WAVES + 1)[:, None] * t
        waves = np.stack([np.sin(phase), np.cos(phase)]) / np.arange(1, WOBBLE_WAVES + 1)[:, None]
        off = wobble[:, s].reshape(n, 2, -1) @ waves.reshape(-1, n_points)
        strokes.append(curve(t, controls[:, s], constants[s]) + off.transpose(0, 2, 1))
    lengths = [stroke.shape[1] for stroke in strokes]
    points = _posed(np.concatenate(strokes, axis=1), jitter * pose)
    begins = np.zeros(sum(lengths), dtype=bool)
    begins[np.cumsum([0, *lengths[:-1]])] = True
    chance = uniform[:, :n_strokes]
    # the stroke that chance spares most stays in any case
    kept = (chance >= LOST_STROKES) | (chance == chance.max(axis=1, keepdims=True))
    there = np.repeat(kept, lengths, axis=1)
    return points[there], np.broadcast_to(begins, there.shape)[there], there.sum(axis=1)


def _posed(points: Floats, pose: Floats) -> Floats:
    """Instances turned about the square's centre and stretched along both axes."""
    angle, shear = TURN * pose[:, 0], STRETCH * pose[:, 1]
    stretch = np.exp(STRETCH * pose[:, 2:4])
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    slant = np.zeros((len(pose), 2, 2))
    slant[:, 0, 0], slant[:, 1, 1], slant[:, 0, 1] = stretch[:, 0], stretch[:, 1], shear
    return (points - 0.5) @ (turn @ slant).transpose(0, 2, 1) + 0.5
