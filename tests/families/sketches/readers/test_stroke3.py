from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.sketches.readers import open_source, strokes_of_stroke3, write_strokes
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.strokes import Strokes


def drawn(groups=None) -> Sketches:
    rng = np.random.default_rng(0)
    drawings = [[rng.normal(size=(k, 2)) for k in rng.integers(1, 9, rng.integers(1, 5))] for _ in range(7)]
    labels = np.array([1, 0, 1, -1, 0, 1, -1])
    return Sketches(None, Strokes.of(drawings), labels, ["ant", "bee"], groups, [""] * 7)


def flat(**others):
    """The arrays of two drawings: a line and a dot, and a line."""
    return {
        "points": np.arange(10.0).reshape(5, 2),
        "begins": np.array([True, False, True, True, False]),
        "offsets": np.array([0, 3, 5]),
        "labels": np.array([0, 0]),
        "classes": np.array(["ant"]),
        **others,
    }


@pytest.mark.parametrize("groups", [None, ["insects", "others"]])
def test_what_is_written_is_read(tmp_path, groups):
    sketches = drawn(groups)
    write_strokes(tmp_path / "a.npz", sketches)
    again = open_source(tmp_path / "a.npz")
    for name in ("points", "begins", "offsets"):
        assert np.array_equal(getattr(again.strokes, name), getattr(sketches.strokes, name))
    assert np.array_equal(again.labels, sketches.labels)
    assert (again.classes, again.groups) == (sketches.classes, sketches.groups)
    assert again.places[2] == f"{tmp_path}/a.npz[2]"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_classes_of_a_file_are_sorted(tmp_path):
    write_strokes(tmp_path / "a.npz", drawn())
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    arrays["classes"] = arrays["classes"][::-1]
    np.savez(tmp_path / "b.npz", **arrays)
    assert open_source(tmp_path / "b.npz").labels.tolist() == [0, 1, 0, -1, 1, 0, -1]


def test_labels_can_be_left_out(tmp_path):
    arrays = flat()
    del arrays["labels"], arrays["classes"]
    np.savez(tmp_path / "a.npz", **arrays)
    sketches = open_source(tmp_path / "a.npz")
    assert sketches.labels.tolist() == [-1, -1]
    assert [stroke.tolist() for stroke in sketches.strokes.drawing(0)] == [[[0, 1], [2, 3]], [[4, 5]]]


def test_of_a_class_the_first_are_taken(tmp_path):
    write_strokes(tmp_path / "a.npz", drawn())
    assert open_source(tmp_path / "a.npz", max_per_class=2).places == [f"{tmp_path}/a.npz[{i}]" for i in range(5)] + [
        f"{tmp_path}/a.npz[6]"
    ]


def test_an_empty_drawing_is_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", **flat(offsets=np.array([0, 3, 3, 5]), labels=np.array([0, 0, 0])))
    sketches = open_source(tmp_path / "a.npz")
    assert len(sketches) == 2
    assert sketches.left_out.lines() == [f"left out 1: empty drawing ({tmp_path}/a.npz[1])"]


def test_the_objects_of_sketch_rnn_are_refused_and_how_to_convert_them_is_said(tmp_path):
    objects = np.empty(2, dtype=object)
    objects[:] = [np.ones((3, 3), dtype=np.int16), np.ones((2, 3), dtype=np.int16)]
    np.savez(tmp_path / "a.npz", train=objects, valid=objects, test=objects)
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "a.npz")
    for words in ("a.npz: has train, valid, test", "to read these is to run what is in the file", "strokes_of_stroke3"):
        assert words in str(error.value)


def test_stroke_3_becomes_strokes_by_adding_up_the_moves():
    rows = np.array([[1, 1, 0], [2, 0, 0], [0, 3, 1], [5, 5, 0], [1, 0, 1], [4, 4, 1]])
    pen, expected, now = np.zeros(2), [], []
    for x, y, lifted in rows.tolist():
        pen = pen + np.array([x, y])
        now.append(pen.tolist())
        if lifted:
            expected.append(now)
            now = []
    strokes = strokes_of_stroke3([rows, rows[:2]])
    assert [stroke.tolist() for stroke in strokes.drawing(0)] == expected
    assert [stroke.tolist() for stroke in strokes.drawing(1)] == [[[1, 1], [3, 1]]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((5, 3))}, r"points is float64 of shape \(5, 3\). Allowed: \(M, 2\)"),
        ({"begins": np.ones(5)}, r"begins is float64 of shape \(5,\). Allowed: \(5,\) bool"),
        ({"begins": np.array([True, False, True, False, False])}, r"begins\[3\] is False, where a drawing begins"),
        ({"offsets": np.array([0, 3, 6])}, "offsets do not rise from 0 to 5"),
        ({"offsets": np.array([0, 4, 3, 5])}, "offsets do not rise"),
        ({"offsets": np.array([0.0, 3.0, 5.0])}, "offsets is float64"),
        ({"labels": np.array([0, 1])}, r"labels\[1\] is 1. Allowed: -1 \(unknown\) to 0"),
        ({"labels": np.array([0, 0, 0])}, r"labels is int64 of shape \(3,\). Allowed: \(2,\) integers"),
        ({"classes": np.array([3])}, "classes is int64"),
        ({"classes": np.array(["ant", "ant"])}, "classes has a name twice"),
        ({"groups": np.array(["x", "y"])}, r"groups is <U1 of shape \(2,\). Allowed: \(1,\) text"),
    ],
)
def test_arrays_that_do_not_go_together_are_said(tmp_path, change, message):
    np.savez(tmp_path / "a.npz", **flat(**change))
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize(("name", "message"), [("offsets", "has no array 'offsets'"), ("classes", "labels and no cla")])
def test_arrays_that_are_missing_are_named(tmp_path, name, message):
    arrays = flat()
    del arrays[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no zip at all")
    with pytest.raises(DataError, match="a.npz"):
        open_source(tmp_path / "a.npz")


def test_pictures_are_not_written_as_strokes(tmp_path):
    pictures = Sketches(np.zeros((1, 8, 8), dtype=np.uint8), None, np.zeros(1, dtype=int), ["a"], None, [""])
    with pytest.raises(ConfigurationError, match="these sketches are pictures"):
        write_strokes(tmp_path / "a.npz", pictures)
    with pytest.raises(ConfigurationError, match="one that ends in .npz"):
        write_strokes(tmp_path / "a.bin", drawn())
