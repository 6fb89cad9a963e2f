from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.sketches.sketches import LeftOutSketches
from stablelit.families.sketches.strokes import Strokes

rng = np.random.default_rng(1)
DRAWINGS = [[rng.normal(size=(n, 2)) for n in sizes] for sizes in ([3, 1], [2], [], [1, 4, 2])]


def test_drawings_come_back_as_they_went_in():
    strokes = Strokes.of(DRAWINGS)
    assert len(strokes) == 4
    for back, drawing in zip(strokes, DRAWINGS, strict=True):
        assert len(back) == len(drawing)
        for one, other in zip(back, drawing, strict=True):
            assert one == pytest.approx(other.astype(np.float32))


def test_an_empty_stroke_is_left_out_and_begins_nothing():
    strokes = Strokes.of([[np.zeros((0, 2)), np.ones((2, 2)), np.zeros((0, 2)), np.zeros((1, 2))]])
    assert strokes.begins.tolist() == [True, False, True]


def test_taken_drawings_are_those_in_that_order():
    strokes = Strokes.of(DRAWINGS)
    taken = strokes.take(np.array([3, 0, 3, 2]))
    for back, i in zip(taken, (3, 0, 3, 2), strict=True):
        assert [s.tolist() for s in back] == [s.tolist() for s in strokes.drawing(i)]


def test_what_is_left_out_is_counted_in_full_and_shown_in_part():
    left_out = LeftOutSketches()
    for i in range(5):
        left_out.add("blank", f"file:{i}")
    assert left_out.lines() == ["left out 5: blank (file:0, file:1, file:2)"]
