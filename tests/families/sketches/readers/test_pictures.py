from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from stablelit.errors import DataError
from stablelit.families.sketches.readers import open_source
from stablelit.families.sketches.readers.gathering import LeaveOut
from stablelit.families.sketches.readers.pictures import decoded
from stablelit.families.sketches.readers.source_files import Unreadable

# rows and columns are averaged one after the other, and rounded after each
ROUNDED = 1.0


def drawing(seed=0, height=64, width=64):
    """A white picture with a black cross somewhere inside."""
    pixels = np.full((height, width), 255, dtype=np.uint8)
    rng = np.random.default_rng(seed)
    row, column = rng.integers(5, height - 5), rng.integers(5, width - 5)
    pixels[row - 1 : row + 2, 3:-3] = 0
    pixels[3:-3, column - 1 : column + 2] = 0
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Class folders b and a, of 4 crosses each."""
    for name in ("b", "a"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(drawing(i + 10 * (name == "b"))).save(tmp_path / "set" / name / f"{i}.png")
    return tmp_path / "set"


def blocks(pixels, size):
    """The mean of every block, ink 255 on 0, in plain loops."""
    k = len(pixels) // size
    return np.array(
        [[255 - pixels[k * i : k * i + k, k * j : k * j + k].mean() for j in range(size)] for i in range(size)]
    )


def test_classes_are_folders_and_ink_is_averaged_over_areas(folder, capsys):
    sketches = open_source(folder, size=16)
    assert sketches.strokes is None
    assert sketches.images.dtype == np.uint8
    assert sketches.classes == ["a", "b"]
    assert sketches.labels.tolist() == [0] * 4 + [1] * 4
    assert sketches.places[5] == str(folder / "b" / "1.png")
    assert np.abs(sketches.images[5] - blocks(drawing(11), 16)).max() <= ROUNDED
    assert "the borders of most of 8 pictures are white: inverted" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["grey", "palette", "one bit", "alpha", "grey and alpha", "sixteen bits", "key", "rgb"])
def test_however_a_picture_is_stored_it_is_the_same_sketch(how):
    pixels = drawing()
    image = Image.fromarray(pixels)
    if how == "palette":
        image = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    elif how == "one bit":
        image = image.convert("1")
    elif how == "alpha":
        # black everywhere, and the paper is what is not there
        image = Image.fromarray(np.dstack([np.zeros((64, 64, 3), dtype=np.uint8), 255 - pixels]))
    elif how == "grey and alpha":
        image = Image.merge("LA", [Image.new("L", (64, 64)), Image.fromarray(255 - pixels)])
    elif how == "sixteen bits":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    elif how == "rgb":
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "png", **({"transparency": 255} if how == "key" else {}))
    picture = decoded(file.getvalue(), 64, "a.png")
    assert np.array_equal(picture.grey, pixels)
    assert picture.border == 255


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "webp", "gif"])
def test_other_formats_are_read(suffix):
    file = io.BytesIO()
    Image.fromarray(drawing()).save(file, {"jpg": "jpeg"}.get(suffix, suffix))
    assert np.abs(255 - decoded(file.getvalue(), 16, "a").grey.astype(float) - blocks(drawing(), 16)).mean() < 4


def test_a_large_jpeg_is_not_decoded_at_its_full_size(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(drawing(0, 1024, 1024)).save(file, "jpeg")
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: sizes.append(self.size) or resize(self, *a, **k))
    decoded(file.getvalue(), 32, "a.jpg")
    assert sizes == [(128, 128)]


@pytest.mark.parametrize("is_wide", [False, True])
def test_the_shape_is_kept_and_paper_is_added(tmp_path, is_wide):
    tall = drawing(1, 64, 16)
    for i in range(2):
        Image.fromarray(tall.T if is_wide else tall).save(tmp_path / f"{i}.png")
    image = open_source(tmp_path, size=32).images[0]
    image = image.T if is_wide else image
    expected = 255 - tall.reshape(32, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(image[:, 12:20] - expected).max() <= ROUNDED
    assert not image[:, :12].any()
    assert not image[:, 20:].any()


def test_a_flat_folder_has_no_classes(tmp_path):
    for i in range(3):
        Image.fromarray(drawing(i)).save(tmp_path / f"{i}.png")
    sketches = open_source(tmp_path)
    assert sketches.classes == []
    assert sketches.labels.tolist() == [-1, -1, -1]


def test_a_zip_is_read_as_the_folder_in_it(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as file:
        for path in folder.rglob("*.png"):
            file.write(path, f"top/{path.relative_to(folder)}")
        file.writestr("__MACOSX/top/a/0.png", b"no picture")
        file.writestr("top/a/.hidden.png", b"no picture")
    packed, plain = open_source(tmp_path / "packed.zip"), open_source(folder)
    assert packed.classes == plain.classes
    assert np.array_equal(packed.images, plain.images)
    assert packed.left_out.lines() == []


def test_folders_of_splits_are_joined(tmp_path, capsys):
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(drawing(i + 3 * (name == "a") + 7 * (part == "test"))).save(
                    tmp_path / part / name / f"{i}.png"
                )
    sketches = open_source(tmp_path)
    assert sketches.classes == ["a", "b"]
    assert np.bincount(sketches.labels).tolist() == [4, 4]
    assert "the folders test, train are joined, and split anew" in capsys.readouterr().out


def test_dark_paper_is_not_inverted(folder, capsys):
    white = open_source(folder, size=64).images
    for path in folder.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert np.array_equal(open_source(folder, size=64).images, white)
    assert "are black: not inverted" in capsys.readouterr().out


def test_pictures_whose_paper_differs_from_most_are_told(folder, capsys):
    path = folder / "a" / "2.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    open_source(folder)
    assert f"1 pictures have the other border, and are taken as the others are ({path})" in capsys.readouterr().out


@pytest.mark.parametrize(("invert", "warned"), [(True, False), (False, True)])
def test_what_is_said_of_the_paper_holds_and_is_doubted_where_the_ink_is_too_much(folder, invert, warned, capsys):
    images = open_source(folder, invert=invert).images
    assert (images.mean() > 127) == warned
    assert ("inverted or blank: the mean ink is" in capsys.readouterr().out) == warned


def test_a_blank_picture_is_left_out_and_counted(folder):
    Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(folder / "a" / "9.png")
    sketches = open_source(folder)
    assert len(sketches) == 8
    assert sketches.left_out.lines() == [f"left out 1: blank or constant picture ({folder}/a/9.png)"]
    with pytest.raises(LeaveOut, match="blank or constant"):
        decoded((folder / "a" / "9.png").read_bytes(), 32, "a")


def test_a_class_of_one_is_left_out_and_counted(folder):
    (folder / "c").mkdir()
    Image.fromarray(drawing(5)).save(folder / "c" / "0.png")
    sketches = open_source(folder)
    assert sketches.classes == ["a", "b"]
    assert sketches.left_out.lines() == [f"left out 1: the only sketch of its class ({folder}/c/0.png)"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"<html>"])
def test_an_unreadable_file_is_counted_and_named(folder, damage):
    path = folder / "a" / "1.png"
    path.write_bytes(damage(path.read_bytes()))
    sketches = open_source(folder)
    assert len(sketches) == 7
    assert sketches.left_out.lines()[0].startswith(f"left out 1: cannot be read ({path}: ")


def test_too_many_unreadable_files_are_refused(folder):
    for i in range(4):
        (folder / "b" / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as error:
        open_source(folder)
    assert "4 of 8 files cannot be read; allowed: 1% of them, or 3. The first: " in str(error.value)
    assert f"{folder}/b/0.png: UnidentifiedImageError: no kind of picture that is decoded" in str(error.value)


def test_a_picture_that_would_fill_the_memory_is_refused(folder, monkeypatch):
    Image.fromarray(drawing(0, 80, 80)).save(folder / "b" / "7.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80 * 80 - 1)
    with pytest.raises(DataError) as error:
        open_source(folder)
    assert f"{folder}/b/7.png: Image size (6400 pixels) exceeds limit" in str(error.value)
    assert "Allowed: 6399 pixels, so that no file can fill the memory. Make it smaller" in str(error.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="Allowed: 1000 pixels"):
        open_source(folder)


def test_copies_are_told_and_kept(folder, capsys):
    for name, source in (("a/8.png", "a/0.png"), ("b/8.png", "a/1.png")):
        (folder / name).write_bytes((folder / source).read_bytes())
    assert len(open_source(folder)) == 10
    told = capsys.readouterr().out
    assert (
        "2 of 10 sketches are, as read, exact copies of an earlier one, 1 of them in another class; all are kept"
        in told
    )
    assert f"({folder}/b/8.png of {folder}/a/1.png)" in told


def test_so_many_of_a_class_are_drawn_by_the_seed_alone(folder):
    def places(seed):
        return open_source(folder, max_per_class=2, seed=seed).places

    assert places(0) == places(0) == sorted(places(0))
    assert len(places(0)) == 4
    assert len({tuple(places(seed)) for seed in range(6)}) > 1
    # not the same numbers of every class: in many data sets these are the same people
    assert any(
        [p[-5] for p in places(seed) if "/a/" in p] != [p[-5] for p in places(seed) if "/b/" in p] for seed in range(6)
    )
    before = [p for p in places(3) if "/b/" in p]
    for path in (folder / "a").glob("*.png"):
        path.unlink()
    assert places(3) == before


def test_a_bad_file_costs_a_class_none_of_its_sketches(folder):
    taken = open_source(folder, max_per_class=3).places[0]
    with open(taken, "wb") as file:
        file.write(b"nothing")
    assert np.bincount(open_source(folder, max_per_class=3).labels).tolist() == [3, 3]


def test_links_that_lead_back_are_followed_once(folder):
    (folder / "a" / "back").symlink_to(folder, target_is_directory=True)
    assert len(open_source(folder)) == 8


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


def test_a_picture_that_is_postscript_is_given_to_no_program(monkeypatch):
    # Pillow hands EPS, whatever its file is called, to Ghostscript
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(Unreadable, match="no kind of picture that is decoded"):
        decoded(POSTSCRIPT, 32, "a.png")


def test_a_format_that_nobody_asked_for_is_not_decoded():
    buffer = io.BytesIO()
    Image.fromarray(drawing()).save(buffer, "TIFF")
    with pytest.raises(Unreadable, match="PNG, JPEG, BMP, WEBP, GIF"):
        decoded(buffer.getvalue(), 32, "a.png")


def test_more_pixels_than_the_memory_is_meant_for_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr("stablelit.families.sketches.readers.pictures.MOST_PIXELS", 64 * 64)
    buffer = io.BytesIO()
    Image.fromarray(drawing(height=65)).save(buffer, "PNG")
    # the pixels are cut off: whoever decodes them finds out
    with pytest.raises(DataError, match=r"a\.png: has 64 x 65 pixels"):
        decoded(buffer.getvalue()[:60], 32, "a.png")
