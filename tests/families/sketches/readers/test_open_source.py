from __future__ import annotations

import os
import sys
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from stablelit.errors import ConfigurationError, DataError, MissingDependencyError
from stablelit.families.sketches.readers import FORMATS, format_of, open_source
from stablelit.families.sketches.readers.source_files import SketchFiles, Unreadable, of_folders


def test_the_formats_are_those_that_are_told():
    assert FORMATS == (
        "images",
        "tuberlin",
        "quickdraw",
        "svg",
        "omniglot_images",
        "omniglot_strokes",
        "stroke3",
        "digits",
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a/1.png", "b/1.JPG"], "images"),
        (["1.webp"], "images"),
        (["a/1.svg", "a/1.png"], "svg"),
        (["cat.ndjson", "preview.png"], "quickdraw"),
        (["png/a/1.png", "png/filelist.txt"], "tuberlin"),
        (["a/1.svg", "filelist.txt"], "tuberlin"),
        (["x/Greek/character01/0001_01.png"], "omniglot_images"),
        (["Greek/character01/0001_01.txt", "Greek/character01/0001_01.png"], "omniglot_strokes"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_format_is_told_by_what_lies_there(tmp_path, files, expected, packed):
    if packed:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
            for name in files:
                file.writestr(f"top/{name}", b"x")
        assert format_of(tmp_path / "all.zip") == expected
        return
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert format_of(tmp_path) == expected


def test_a_path_that_is_not_there_says_what_is_near_and_what_is_looked_for(tmp_path):
    (tmp_path / "sketches").mkdir()
    for format in ("auto", "images", "stroke3"):
        with pytest.raises(DataError) as error:
            open_source(tmp_path / "sketchs", format)
        assert f"{tmp_path}/sketchs: there is no such file or folder. Did you mean 'sketches'? Looked for" in str(
            error.value
        )
        for name in FORMATS:
            assert name in str(error.value)


@pytest.mark.parametrize("format", ["auto", *[name for name in FORMATS if name not in ("stroke3", "digits")]])
def test_an_empty_folder_says_what_is_looked_for(tmp_path, format):
    with pytest.raises(DataError, match=r"Looked for, in a folder or a zip: <class>/<any>.png.*There is: nothing"):
        open_source(tmp_path, format)


def test_a_folder_of_something_else_says_what_there_is(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="is none of the formats.*There is: table.parquet"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"format": "quickdrawn"},
            "format='quickdrawn' is not allowed. Allowed: auto, images, .*Did you mean 'quickdraw'",
        ),
        ({"size": 4}, "size=4 is not allowed. Allowed: an int of 8 or more"),
        ({"max_per_class": 1}, "max_per_class=1 is not allowed. Allowed: an int of 2 or more"),
        ({"recognized_only": "no"}, "recognized_only='no' is not allowed. Allowed: True or False"),
        ({"invert": "no"}, "invert='no' is not allowed. Allowed: auto, true or false"),
        ({"seed": -1}, "seed=-1 is not allowed"),
    ],
)
def test_an_argument_outside_its_range_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source("nowhere", **arguments)


def test_what_is_not_read_is_said(tmp_path, capsys):
    for i in range(2):
        Image.fromarray(np.eye(9, k=i, dtype=np.uint8) * 255).save(tmp_path / f"{i}.png")
    for name in ("a.psd", "README.md", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    open_source(tmp_path)
    assert "read as images; 1 files of other kinds are not read (a.psd)" in capsys.readouterr().out


def test_a_damaged_zip_is_said(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"a\.zip: cannot be read as a zip"):
        open_source(tmp_path / "a.zip")


def test_a_file_larger_than_any_drawing_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.families.sketches.readers.source_files.MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.png", bytes(2**20 + 1))
        file.writestr("good.png", bytes(2**20))
    with SketchFiles(tmp_path / "a.zip") as files:
        with pytest.raises(Unreadable, match="larger than 1 MiB"):
            files.read("bomb.png")
        assert len(files.read("good.png")) == 2**20


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["1", "2"], {None: ["1", "2"]}),
        (["a/1", "b/2"], {"a": ["a/1"], "b": ["b/2"]}),
        (["a/1"], {"a": ["a/1"]}),
        (["top/a/1", "top/b/2"], {"a": ["top/a/1"], "b": ["top/b/2"]}),
        (["x/a/1", "y/a/2"], {"x/a": ["x/a/1"], "y/a": ["y/a/2"]}),
        (["train/a/1", "test/a/2"], {"a": ["train/a/1", "test/a/2"]}),
        (["train/1", "test/2"], {"train": ["train/1"], "test": ["test/2"]}),
        (["0", "a/1"], {None: ["0"], "a": ["a/1"]}),
    ],
)
def test_folders_are_classes_but_for_those_around_them(names, classes):
    assert of_folders(names)[0] == classes


def test_files_beside_the_folders_of_classes_are_told():
    assert of_folders(["0", "a/1"])[1] == "1 files lie beside the folders of classes, and have no class (0, ...)"
    assert of_folders(["0", "1"])[1] == of_folders(["a/0", "b/1"])[1] == ""


@pytest.fixture
def digits(monkeypatch):
    """Stands in for scikit-learn, which need not be installed: three classes of four."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (12, 8, 8)).astype(float)
    data = types.SimpleNamespace(images=images, target=np.arange(12) % 3)
    module = types.ModuleType("sklearn.datasets")
    module.load_digits = lambda: data
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
    return data


def test_digits_are_enlarged_ink_on_paper(digits):
    sketches = open_source("digits", size=8)
    assert sketches.classes == ["0", "1", "2"]
    assert sketches.labels.tolist() == [0, 1, 2] * 4
    assert np.abs(sketches.images - digits.images * 255 / 16).max() <= 0.5
    assert open_source("anything", "digits", size=32, max_per_class=2).images.shape == (6, 32, 32)


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        open_source("digits")


def test_a_pipe_among_drawings_is_not_waited_for(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.svg").write_text('<svg><path d="M0 0L1 1"/></svg>')
    os.mkfifo(tmp_path / "2.svg")
    sketches = open_source(tmp_path)
    assert len(sketches) == 2
    assert "no file, but a pipe" in sketches.left_out.places["cannot be read"][0]


@pytest.mark.parametrize("method", [12, 14, 99], ids=["bzip2", "lzma", "unknown"])
def test_a_member_that_its_decompressor_refuses_is_left_out(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for i in range(3):
            file.writestr(f"{i}.svg", '<svg><path d="M0 0L1 1"/></svg>')
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    for begin, at in ((raw.index(b"PK\x03\x04"), 8), (raw.index(b"PK\x01\x02"), 10)):
        raw[begin + at] = method
    (tmp_path / "a.zip").write_bytes(raw)
    sketches = open_source(tmp_path / "a.zip")
    assert len(sketches) == 2
    assert sketches.left_out.counts["cannot be read"] == 1
