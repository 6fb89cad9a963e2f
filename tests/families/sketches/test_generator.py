"""Toy drawings: a class is its number, an instance its place, and how hard they are is what is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.sketches import generator as module
from stablelit.families.sketches.generator import (
    CURVES,
    FEWEST_STROKES,
    MOST_STROKES,
    generate_sketches,
    generate_strokes,
)
from stablelit.families.sketches.rasterise import rasterise_all


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("points", "begins", "offsets"))


def strokes_of(strokes) -> np.ndarray:
    return np.add.reduceat(strokes.begins.astype(int), strokes.offsets[:-1])


def test_a_class_and_an_instance_are_the_same_whatever_else_is_asked_for():
    many, labels = generate_strokes(6, 40, seed=3)
    few, _ = generate_strokes(2, 25, seed=3, first_class=4)
    which = np.concatenate([np.flatnonzero(labels == k)[:25] for k in (4, 5)])
    assert same(many.take(which), few)


def test_another_seed_and_another_class_are_other_drawings():
    base, _ = generate_strokes(1, 4)
    assert same(base, generate_strokes(1, 4)[0])
    assert not same(base, generate_strokes(1, 4, seed=1)[0])
    assert not same(base, generate_strokes(1, 4, first_class=1)[0])


def test_without_jitter_instances_differ_by_lost_strokes_alone():
    strokes, labels = generate_strokes(20, 30, jitter=0.0)
    for k in range(20):
        drawings = [strokes.drawing(i) for i in np.flatnonzero(labels == k)]
        whole = {stroke.tobytes() for stroke in max(drawings, key=len)}
        assert all(stroke.tobytes() in whole for drawing in drawings for stroke in drawing)


@pytest.mark.slow
def test_strokes_are_lost_as_often_as_is_said_and_never_all():
    strokes, labels = generate_strokes(200, 50)
    left = strokes_of(strokes).reshape(200, 50)
    whole = left.max(axis=1, keepdims=True)
    assert np.diff(strokes.offsets).min() >= 1
    assert set(np.unique(whole)) == set(range(FEWEST_STROKES, MOST_STROKES + 1))
    lost, n = float((whole - left).sum()), float(whole.sum() * 50)
    # of two strokes both are lost with probability 0.06^2, and then one stays: less than the error of the count
    assert lost / n == pytest.approx(module.LOST_STROKES, abs=4 * math.sqrt(module.LOST_STROKES / n) + 0.001)


def test_labels_names_and_places_belong_together():
    sketches = generate_sketches(3, 2, first_class=7)
    assert sketches.classes == ["drawn-0007", "drawn-0008", "drawn-0009"]
    assert sketches.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(sketches.places) == [f"toy:drawn-000{k}:{i}" for k in (7, 8, 9) for i in (0, 1)]
    assert sketches.images is None
    assert same(sketches.strokes, generate_strokes(3, 2, first_class=7)[0])


@pytest.mark.parametrize("kind", range(len(CURVES)))
def test_a_curve_follows_its_control_points_when_they_are_moved_turned_and_stretched(kind):
    # a wave's swing stands at a right angle to its line, so all of them keep a turn, a shift and one scale
    curve, n = CURVES[kind]
    rng = np.random.default_rng(kind)
    controls, constants, t = rng.random((5, 4, 2)), rng.random(2), np.linspace(0, 1, n)
    turn = 1.7 * np.array([[math.cos(0.4), math.sin(0.4)], [-math.sin(0.4), math.cos(0.4)]])
    expected = curve(t, controls, constants) @ turn + [3.0, -2.0]
    np.testing.assert_allclose(curve(t, controls @ turn + [3.0, -2.0], constants), expected, atol=1e-9)


def test_ellipses_close_and_lines_and_curves_end_at_their_control_points():
    controls, t = np.random.default_rng(0).random((5, 4, 2)), np.linspace(0, 1, 9)
    named = {curve.__name__: curve(t, controls, np.array([0.25, 0.0])) for curve, _ in CURVES}
    for name in ("_line", "_polyline", "_bezier"):
        np.testing.assert_allclose(named[name][:, [0, -1]], controls[:, [0, 3]], atol=1e-12)
    np.testing.assert_allclose(named["_ellipse"][:, 0], named["_ellipse"][:, -1], atol=1e-12)
    np.testing.assert_allclose(named["_spiral"][:, 0], controls[:, 0], atol=1e-12)
    for i, axis in np.ndindex(5, 2):
        expected = np.interp(t, [0, 1 / 3, 2 / 3, 1], controls[i, :, axis])
        np.testing.assert_allclose(named["_polyline"][i, :, axis], expected, atol=1e-12)
    # two periods of the wave: its ends lie on its line
    np.testing.assert_allclose(named["_wave"][:, [0, -1]], controls[:, [0, 3]], atol=1e-12)


def one_shot_accuracy(images: np.ndarray, n_classes: int, episodes: int = 300) -> float:
    """Five ways, one shot, fifteen queries: by cosines of centred pixels."""
    x = images.reshape(len(images), -1).astype(float)
    x -= x.mean(0)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).reshape(n_classes, -1, x.shape[1])
    rng = np.random.default_rng(0)
    right = 0.0
    for _ in range(episodes):
        classes = rng.choice(n_classes, 5, replace=False)
        chosen = rng.permuted(np.tile(np.arange(x.shape[1]), (5, 1)), axis=1)[:, :16]
        shown = x[classes[:, None], chosen]
        nearest = (shown[:, 1:] @ shown[:, 0].T).argmax(-1)
        right += float((nearest == np.arange(5)[:, None]).mean())
    return right / episodes


@pytest.mark.slow
@pytest.mark.parametrize(("jitter", "accuracy"), [(0.05, 0.88), (0.10, 0.70), (0.15, 0.54)])
def test_raw_pixels_find_it_as_hard_as_is_said(jitter, accuracy):
    strokes, _ = generate_strokes(100, 20, jitter=jitter)
    assert one_shot_accuracy(rasterise_all(strokes, 32), 100) == pytest.approx(accuracy, abs=0.04)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"n_classes": 0}, "n_classes"),
        ({"per_class": 0}, "per_class"),
        ({"seed": -1}, "seed"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": "0.1"}, "jitter"),
        ({"first_class": -1}, "first_class"),
    ],
)
def test_arguments_outside_their_range_are_refused_by_name(how, name):
    with pytest.raises(ConfigurationError, match=f"generate_strokes: {name}"):
        generate_strokes(**{"n_classes": 2, "per_class": 2, **how})
