from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.sketches.readers import open_source, quickdraw


def line(word="cat", drawing=([[0, 1], [2, 3]], [[5], [6]]), **others) -> str:
    return json.dumps({"word": word, "recognized": True, "drawing": list(drawing), **others})


def written(folder, **files):
    for name, lines in files.items():
        (folder / f"{name}.ndjson").write_text("\n".join(lines) + "\n")
    return folder


def random_drawings(n, seed=0, raw=False):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        lengths = rng.integers(1, 6, rng.integers(1, 5))
        axes = [rng.integers(0, 256, (2, k)) if not raw else rng.normal(300, 99, (2, k)).round(3) for k in lengths]
        made.append([a.tolist() + [list(range(a.shape[1]))] * raw for a in axes])
    return made


@pytest.mark.parametrize("raw", [False, True])
def test_every_stroke_comes_back_point_for_point(tmp_path, raw):
    drawings = {name: random_drawings(5, seed, raw) for seed, name in enumerate(("cat", "bee"))}
    written(tmp_path, **{name: [line(name, drawing) for drawing in some] for name, some in drawings.items()})
    sketches = open_source(tmp_path)
    assert sketches.images is None
    assert sketches.classes == ["bee", "cat"]
    for i, drawing in enumerate(drawings["bee"] + drawings["cat"]):
        strokes = sketches.strokes.drawing(i)
        assert len(strokes) == len(drawing)
        for stroke, (x, y, *_) in zip(strokes, drawing, strict=True):
            assert np.array_equal(stroke, np.array([x, y], dtype=np.float32).T)
    assert sketches.places[6] == f"{tmp_path}/cat.ndjson:2"
    assert sketches.labels.tolist() == [0] * 5 + [1] * 5


def test_a_stroke_of_one_point_is_kept_as_a_dot(tmp_path):
    sketches = open_source(written(tmp_path, cat=[line(), line(drawing=[[[7], [8]]])]))
    assert [stroke.tolist() for stroke in sketches.strokes.drawing(0)] == [[[0, 2], [1, 3]], [[5, 6]]]
    assert [stroke.tolist() for stroke in sketches.strokes.drawing(1)] == [[[7, 8]]]


def test_the_word_is_the_class_and_otherwise_the_name_of_the_file(tmp_path):
    nameless = json.dumps({"drawing": [[[0, 1], [2, 3]]]})
    written(tmp_path, all=[line("ant"), line("bee"), line("ant"), line("bee")])
    written(tmp_path, **{"full_simplified_The Eiffel Tower": [nameless] * 2, "full%2Fraw%2Fcow": [nameless] * 2})
    sketches = open_source(tmp_path)
    assert sketches.classes == ["The Eiffel Tower", "ant", "bee", "cow"]
    assert np.bincount(sketches.labels).tolist() == [2, 2, 2, 2]


def test_only_recognized_drawings_are_read_unless_others_are_wanted(tmp_path):
    written(tmp_path, cat=[line(), line(recognized=False), line()])
    sketches = open_source(tmp_path)
    assert len(sketches) == 2
    assert sketches.left_out.lines() == [
        f"left out 1: not recognized by the game (recognized_only=false keeps them) ({tmp_path}/cat.ndjson:2)"
    ]
    assert len(open_source(tmp_path, recognized_only=False)) == 3


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "no JSON"),
        ("[1]", "no object with a 'drawing'"),
        ('{"word": "cat"}', "no object with a 'drawing'"),
        (line(drawing={"x": 1}), "stroke 0 is no [[x, ...], [y, ...]]"),
        ('{"drawing": "abc"}', "'drawing' is no list of strokes"),
        (line(drawing=[[[1, 2], [1, 2]], [3, 4]]), "stroke 1 is no [[x, ...], [y, ...]]"),
        (line(drawing=[[[1, 2], [1]]]), "stroke 0 has 2 x and 1 y"),
        (line(drawing=[[[1, "2"], [1, 2]]]), "a coordinate is no number"),
        (line(drawing=[[[1, None], [1, 2]]]), "a coordinate is no number"),
        (line(drawing=[[[1, [2]], [1, 2]]]), "a coordinate is no number"),
        (line(drawing=[[[[1], [2]], [[1], [2]]]]), "a coordinate is no number"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_one_bad_line_in_25_is_told_with_its_place_and_stops_nothing(tmp_path, bad, why):
    written(tmp_path, cat=[line()] * 10 + [bad] + [line()] * 14)
    sketches = open_source(tmp_path)
    assert len(sketches) == 24
    (told,) = sketches.left_out.lines()
    assert told.startswith(f"left out 1: cannot be read ({tmp_path}/cat.ndjson:11: {why}")


def test_the_first_three_bad_lines_are_shown(tmp_path):
    written(tmp_path, cat=[line()] * 4 + ["{"] * 3)
    (told,) = open_source(tmp_path).left_out.lines()
    assert [f"cat.ndjson:{n}" in told for n in (4, 5, 6, 7)] == [False, True, True, True]


@pytest.mark.parametrize(("good", "bad", "refused"), [(2, 4, True), (2, 3, False), (990, 10, False), (989, 11, True)])
def test_more_bad_lines_than_one_in_a_hundred_are_refused_but_never_three(tmp_path, good, bad, refused):
    written(tmp_path, cat=[line()] * good + ["{"] * bad)
    if not refused:
        assert len(open_source(tmp_path)) == good
        return
    with pytest.raises(DataError) as error:
        open_source(tmp_path)
    assert f"{bad} of {good + bad} lines cannot be read; allowed: 1% of them, or 3" in str(error.value)
    assert f"{tmp_path}/cat.ndjson:{good + 1}: no JSON" in str(error.value)


def test_empty_drawings_and_points_that_are_nowhere_are_left_out_and_counted(tmp_path):
    nowhere = line(drawing=[[[float("nan"), 1, 2], [0, 1, 2]], [[0, 1], [float("inf"), 1e300]], [[4, 5], [4, 5]]])
    empty = [line(drawing=[]), line(drawing=[[[], []]]), line(drawing=[[[float("nan")], [0]]])]
    sketches = open_source(written(tmp_path, cat=[line(), nowhere, *empty]))
    assert [stroke.tolist() for stroke in sketches.strokes.drawing(1)] == [[[1, 1], [2, 2]], [[4, 4], [5, 5]]]
    assert sketches.strokes.begins.sum() == 4
    nowhere, empty = sketches.left_out.lines()
    assert nowhere.startswith("left out 3: points that are not finite or beyond 1e15")
    assert empty.startswith(f"left out 3: empty drawing ({tmp_path}/cat.ndjson:3, {tmp_path}/cat.ndjson:4")


def test_so_many_of_a_class_are_the_first_and_a_file_of_one_word_is_not_read_on(tmp_path, monkeypatch):
    written(tmp_path, cat=[line()] * 50, **{"all words": [line("ant")] * 10 + [line("bee")] * 10})
    read = []
    monkeypatch.setattr(quickdraw, "_record", lambda data, record=quickdraw._record: read.append(data) or record(data))
    sketches = open_source(tmp_path, max_per_class=3)
    assert np.bincount(sketches.labels).tolist() == [3, 3, 3]
    assert sketches.places[-1] == f"{tmp_path}/cat.ndjson:3"
    assert len(read) == 20 + 4


def test_a_file_and_a_zip_are_read_as_the_folder(tmp_path):
    written(tmp_path, cat=[line(drawing=d) for d in random_drawings(4)])
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "cat.ndjson", "somewhere/cat.ndjson")
    one, packed = open_source(tmp_path / "cat.ndjson"), open_source(tmp_path / "all.zip")
    assert np.array_equal(one.strokes.points, packed.strokes.points)
    assert packed.places[0] == f"{tmp_path}/all.zip/somewhere/cat.ndjson:1"


def test_a_file_that_nothing_can_be_made_of_is_refused(tmp_path):
    written(tmp_path, cat=[line(drawing=[])], dog=[line("dog")])
    with pytest.raises(DataError) as error:
        open_source(tmp_path)
    assert "no sketch is left. left out 1: empty drawing" in str(error.value)
    assert "the only sketch of its class" in str(error.value)


def test_real_drawings_are_read_whole(test_data):
    sketches = open_source(test_data / "sketches" / "quickdraw", recognized_only=False)
    assert np.bincount(sketches.labels).tolist() == [25] * 10
    assert sketches.left_out.lines() == []
    for place in (3, 77, 249):
        path, _, number = sketches.places[place].rpartition(":")
        with open(path) as file:
            record = json.loads(file.read().splitlines()[int(number) - 1])
        assert record["word"] == sketches.classes[sketches.labels[place]]
        strokes = sketches.strokes.drawing(place)
        assert [stroke.T.tolist() for stroke in strokes] == record["drawing"]
    assert sketches.strokes.points.min() == 0
    assert sketches.strokes.points.max() == 255


@pytest.mark.parametrize(
    "drawing",
    ['[[[1, "%s"], [2, 3]]]' % ("a" * 100_000), "[[[1, true], [2, 3]]]", "[[[1%s, 2], [2, 3]]]" % ("0" * 400)],
    ids=["a-long-text", "a-flag", "no-float-holds-it"],
)
def test_a_coordinate_that_is_no_number_costs_no_memory(tmp_path, drawing):
    # numpy would make each of a thousand numbers as wide as the text
    many = drawing.replace("[[[1", "[[[" + "1, " * 1000 + "1").replace("[2, 3]", "[" + "1, " * 1000 + "2, 3]")
    bad = '{"word": "cat", "drawing": ' + many + "}"
    sketches = open_source(written(tmp_path, cat=[line(), line(), bad]))
    assert len(sketches) == 2
    assert "a coordinate is" in sketches.left_out.places["cannot be read"][0]
