from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from stablelit.families.sketches.readers.source_files import Unreadable
from stablelit.families.sketches.readers.svg_paths import SEGMENTS, arc, strokes_of_path


def de_casteljau(controls, t):
    points = [np.array(c, dtype=float) for c in controls]
    while len(points) > 1:
        points = [(1 - t) * p + t * q for p, q in pairwise(points)]
    return points[0]


def curve(*controls):
    return [de_casteljau(controls, k / SEGMENTS) for k in range(1, SEGMENTS + 1)]


def one(data):
    (stroke,) = strokes_of_path(data)
    return stroke


def same(first, second):
    mine, others = strokes_of_path(first), strokes_of_path(second)
    assert len(mine) == len(others)
    for a, b in zip(mine, others, strict=True):
        assert a == pytest.approx(b)


def test_lines_are_their_points():
    assert one("M1 2L3,4 5-6H7V8.5").tolist() == [[1, 2], [3, 4], [5, -6], [7, -6], [7, 8.5]]


def test_curves_are_sixteen_segments_each():
    cubics = ((0, 0), (1, 3), (4, -2), (5, 1)), ((5, 1), (6, 6), (7, 7), (8, 0))
    expected = [(0, 0), *curve(*cubics[0]), *curve(*cubics[1])]
    assert one("M0 0C1 3 4-2 5 1 6 6 7 7 8 0") == pytest.approx(np.array(expected))
    assert one("M0 0Q1 3 4-2") == pytest.approx(np.array([(0, 0), *curve((0, 0), (1, 3), (4, -2))]))


@pytest.mark.parametrize(
    ("relative", "absolute"),
    [
        ("m1 2 3 4 5 6", "M1 2L4 6 9 12"),
        ("m1 2l3 4 5 6h1 2v-1-1", "M1 2L4 6 9 12 10 12 12 12 12 11 12 10"),
        ("m1 2c1 1 2 2 3 0 1 1 2 2 3 0", "M1 2C2 3 3 4 4 2 5 3 6 4 7 2"),
        ("m1 2q1 1 2 0 1 1 2 0", "M1 2Q2 3 3 2 4 3 5 2"),
        ("m1 2s1 1 2 0 1 1 2 0", "M1 2S2 3 3 2 4 3 5 2"),
        ("m1 2t1 1 2 0", "M1 2T2 3 4 3"),
        ("m1 2a3 3 0 0 1 4 1", "M1 2A3 3 0 0 1 5 3"),
        ("m1 2l1 0zm1 1l1 1", "M1 2L2 2ZM2 3L3 4"),
    ],
)
def test_small_letters_count_from_the_pen(relative, absolute):
    same(relative, absolute)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("M0 0C0 1 1 1 1 0S3 4 5 6", "M0 0C0 1 1 1 1 0 1-1 3 4 5 6"),
        ("M0 0C0 1 1 1 1 0S3 4 5 6 7 7 8 8", "M0 0C0 1 1 1 1 0 1-1 3 4 5 6 7 8 7 7 8 8"),
        # nothing to continue: the first control point is where the pen is
        ("M1 1L2 2S3 4 5 6", "M1 1L2 2C2 2 3 4 5 6"),
        ("M0 0Q1 1 2 0T4 0 6 0", "M0 0Q1 1 2 0 3-1 4 0 5 1 6 0"),
        ("M0 0C9 9 1 1 2 0T4 4", "M0 0C9 9 1 1 2 0Q2 0 4 4"),
    ],
)
def test_smooth_curves_mirror_the_control_point_before(short, long):
    same(short, long)


def test_a_closed_path_ends_where_it_began_and_the_next_begins_there():
    first, second = strokes_of_path("M1 1H3V3ZL0 0")
    assert first.tolist() == [[1, 1], [3, 1], [3, 3], [1, 1]]
    assert second.tolist() == [[1, 1], [0, 0]]


def test_a_move_that_is_all_is_a_dot_and_others_draw_nothing():
    assert one("M3 4").tolist() == [[3, 4]]
    assert len(strokes_of_path("M1 1L2 2M3 3")) == 1
    assert strokes_of_path("") == []


def test_numbers_need_no_blanks():
    assert one("M.5.5l1e1-2.5E-1").tolist() == [[0.5, 0.5], [10.5, 0.25]]
    same("M0 0a1 1 0 0110 10", "M0 0A1 1 0 0 1 10 10")


@pytest.mark.parametrize(("large", "sweep"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_an_arc_is_on_an_ellipse_and_as_long_and_turned_as_its_flags_say(large, sweep, turn):
    # from an ellipse: its centre, its radii, where the arc begins and by how much it goes on
    centre, radii, first = np.array([3.0, -2.0]), np.array([4.0, 2.0]), 0.4
    swept = (1.0 if large == 0 else 2 * math.pi - 1.0) * (1 if sweep else -1)
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])

    def on(angle):
        return centre + rotate @ (radii * [math.cos(angle), math.sin(angle)])

    points = arc(on(first), on(first + swept), *radii, turn, bool(large), bool(sweep))
    steps = np.linspace(first, first + swept, len(points) + 1)[1:]
    assert points == pytest.approx(np.array([on(a) for a in steps]))
    assert len(points) == SEGMENTS * math.ceil(abs(swept) / (math.pi / 2))


def test_radii_too_small_for_the_chord_are_enlarged_to_it():
    points = arc(np.zeros(2), np.array([4.0, 0.0]), 0.5, 0.5, 0.0, False, True)
    assert np.hypot(points[:, 0] - 2, points[:, 1]) == pytest.approx(2.0)


def test_an_arc_without_a_radius_is_a_line():
    assert one("M0 0A0 5 0 0 1 3 4").tolist() == [[0, 0], [3, 4]]


@pytest.mark.parametrize("radius", ["1e999", "1e200", "1e-320"])
def test_an_arc_with_a_radius_beyond_all_numbers_ends_where_it_should(radius):
    assert one(f"M0 0A{radius} {radius} 0 0 1 3 4")[-1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("L1 1", "begins with 'L' and not with M"),
        ("M1", "1 numbers behind 'M', which takes 2"),
        ("M1 1C1 2 3 4 5", "5 numbers behind 'C', which takes 6"),
        ("M1 1B2 2", "'B' where a number is due"),
        ("M1 1L2 x", "'x' where a number is due"),
        ("M1 1L", "0 numbers behind 'L'"),
        ("foo", "a path with 'foo'"),
        ("M1 1A1 1 0 2 0 3 3", "an arc with '2 0 3 3'"),
        ("M1 1Z5", "numbers behind 'Z'"),
    ],
)
def test_what_is_no_path_is_said(data, message):
    with pytest.raises(Unreadable, match=message):
        strokes_of_path(data)


@pytest.mark.parametrize("data", ["M0 0A" + "2" * 20_000, "M0 0L" + "2" * 20_000 + "x", "M" + "1 " * 20_001])
def test_no_text_takes_long(data):
    # not a limit of time: with numbers that can be cut in several ways, this would not end
    with pytest.raises(Unreadable):
        strokes_of_path(data)
