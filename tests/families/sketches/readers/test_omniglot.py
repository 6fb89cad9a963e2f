from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stablelit.errors import DataError
from stablelit.families.sketches.readers import open_source

PEN = "START\n1.0,-2.0,0\n3.0,-4.5,10\nBREAK\n5.0,-6.0,20\nBREAK\n7.0,-8.0,30\n9.0,-8.0,35\nBREAK\n"


def characters(folder, write, suffix):
    for alphabet, count in (("Greek", 2), ("Aramaic", 1)):
        for number in range(1, count + 1):
            here = folder / "images_background" / alphabet / f"character{number:02d}"
            here.mkdir(parents=True)
            for drawer in (1, 2, 3):
                write(here / f"0{number}7_0{drawer}.{suffix}", drawer)
    return folder


@pytest.fixture
def pens(tmp_path):
    return characters(tmp_path, lambda path, drawer: path.write_text(PEN.replace("9.0", f"{9 + drawer}.0")), "txt")


def test_strokes_end_at_breaks_and_y_points_down(pens):
    sketches = open_source(pens)
    assert sketches.images is None
    strokes = [stroke.tolist() for stroke in sketches.strokes.drawing(1)]
    assert strokes == [[[1, 2], [3, 4.5]], [[5, 6]], [[7, 8], [11, 8]]]


def test_classes_are_characters_of_alphabets_and_the_drawer_is_in_the_place(pens):
    sketches = open_source(pens)
    assert sketches.classes == ["Aramaic/character01", "Greek/character01", "Greek/character02"]
    assert sketches.groups == ["Aramaic", "Greek", "Greek"]
    assert sketches.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sketches.places[5].endswith("Greek/character01/017_03.txt")


def test_a_class_that_is_left_out_takes_its_group_with_it(pens):
    for drawer in (1, 2):
        (pens / "images_background" / "Aramaic" / "character01" / f"017_0{drawer}.txt").unlink()
    sketches = open_source(pens)
    assert sketches.groups == ["Greek", "Greek"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PEN + "1;2;3\n", "line 10: '1;2;3', which is neither START, BREAK nor x,y,t"),
        (PEN.replace("3.0", "three"), "a coordinate is no number"),
    ],
)
def test_a_file_that_is_no_pen_is_told(pens, text, why):
    path = pens / "images_background" / "Greek" / "character02" / "027_02.txt"
    path.write_text(text)
    (told,) = open_source(pens).left_out.lines()
    assert told.startswith(f"left out 1: cannot be read ({path}: {why}")


def test_a_drawing_without_a_point_is_left_out(pens):
    path = pens / "images_background" / "Greek" / "character02" / "027_02.txt"
    path.write_text("START\nBREAK\n")
    assert open_source(pens).left_out.lines() == [f"left out 1: empty drawing ({path})"]


def test_pictures_have_alphabets_too(tmp_path):
    def write(path, drawer):
        image = Image.new("1", (105, 105), 1)
        ImageDraw.Draw(image).line([(20, 30), (80, 30 + 20 * drawer)], fill=0, width=3)
        image.save(path)

    sketches = open_source(characters(tmp_path, write, "png"))
    assert sketches.strokes is None
    assert sketches.groups == ["Aramaic", "Greek", "Greek"]
    assert len(sketches) == 9
    assert 0.005 < sketches.images.mean() / 255 < 0.1


@pytest.mark.parametrize(("name", "suffix"), [("omniglot_images", "png"), ("omniglot_strokes", "txt")])
def test_other_files_are_said_to_be_no_omniglot(tmp_path, name, suffix):
    (tmp_path / f"notes.{suffix}").write_text("nothing")
    with pytest.raises(DataError, match=rf"has no <alphabet>/character<NN>/<XXXX>_<YY>\.{suffix}, which Omniglot is"):
        open_source(tmp_path, name)


@pytest.mark.slow
def test_real_pictures_and_strokes_are_the_same_characters_in_the_same_order(test_data):
    folder = test_data / "sketches"
    pictures = open_source(folder / "images_small1.zip", max_per_class=2, size=105)
    strokes = open_source(folder / "strokes_small1.zip", max_per_class=2)
    assert pictures.classes == strokes.classes
    assert len(pictures.classes) == 136
    assert pictures.groups == strokes.groups
    assert sorted(set(pictures.groups)) == ["Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"]
    ends = [[place.rpartition("/")[2].partition(".")[0] for place in s.places] for s in (pictures, strokes)]
    assert ends[0] == ends[1]
    # the pen went where the ink is: up to the width of the line, and with y down
    on_ink = []
    for i in range(0, len(pictures), 20):
        ink = Image.fromarray(pictures.images[i])
        thick = np.asarray(ink.resize((35, 35), Image.Resampling.BOX)) > 0
        column, row = np.clip(np.concatenate(strokes.strokes.drawing(i)) / 3, 0, 34).astype(int).T
        on_ink.append(thick[row, column].mean())
    assert np.mean(on_ink) > 0.95


def test_a_zip_of_both_is_read_by_what_is_asked_for(pens, tmp_path):
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as file:
        for path in sorted(pens.rglob("*.txt")):
            file.write(path, path.relative_to(pens))
    assert open_source(tmp_path / "both.zip", "omniglot_strokes").groups == ["Aramaic", "Greek", "Greek"]
