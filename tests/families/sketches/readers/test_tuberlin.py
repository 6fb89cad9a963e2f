from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stablelit.errors import DataError
from stablelit.families.sketches.readers import format_of, open_source

SVG = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg viewBox="0 0 800 800" preserveAspectRatio="xMinYMin meet" xmlns="http://www.w3.org/2000/svg" version="1.1">
<g fill="none" stroke="black" stroke-width="1.5"><g transform="translate(10,20) scale(2) translate(0,-5)">
<path id="0" d="M1 6 C1 6 2 6 {} 6 "/><path id="1" d="M3 7 L4 8 "/></g></g></svg>"""


def release(folder, suffix):
    """airplane 1 to 3 and "alarm clock" 81 to 83, as they are released."""
    names = [f"airplane/{i}.{suffix}" for i in (1, 2, 3)] + [f"alarm clock/{i}.{suffix}" for i in (81, 82, 83)]
    for i, name in enumerate(names):
        path = folder / suffix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "svg":
            path.write_text(SVG.format(i + 2))
        else:
            pixels = np.full((111, 111), 255, dtype=np.uint8)
            pixels[20 + i : 23 + i, 10:100] = 0
            Image.fromarray(pixels).save(path)
    (folder / suffix / "filelist.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.mark.parametrize("inside", ["", "svg"])
def test_strokes_are_read_with_their_transforms(tmp_path, inside, capsys):
    folder = release(tmp_path, "svg") / inside
    assert format_of(folder) == "tuberlin"
    sketches = open_source(folder)
    assert sketches.classes == ["airplane", "alarm clock"]
    first, second = sketches.strokes.drawing(0)
    assert first[[0, -1]].tolist() == [[12, 22], [14, 22]]
    assert len(first) == 17
    assert second.tolist() == [[16, 24], [18, 26]]
    assert "2 classes, 6 files; TU-Berlin has 250 of 80 each" in capsys.readouterr().out


def test_pictures_are_read_where_there_are_no_strokes(tmp_path):
    sketches = open_source(release(tmp_path, "png"))
    assert sketches.classes == ["airplane", "alarm clock"]
    assert sketches.images.shape == (6, 32, 32)


def test_of_both_the_strokes_are_read_and_the_pictures_by_their_folder(tmp_path, capsys):
    release(release(tmp_path, "svg"), "png")
    both = open_source(tmp_path)
    assert both.strokes is not None
    assert both.left_out.lines() == []
    assert "has .svg and .png of the sketches: strokes are read" in capsys.readouterr().out
    assert open_source(tmp_path / "png").images is not None


def test_files_of_the_list_that_are_not_there_are_counted(tmp_path):
    release(tmp_path, "svg")
    (tmp_path / "svg" / "airplane" / "2.svg").unlink()
    assert open_source(tmp_path).left_out.lines() == [
        f"left out 1: named in filelist.txt and not there ({tmp_path}/svg/filelist.txt: airplane/2.svg)"
    ]


def test_what_has_no_classes_is_said_to_be_no_tuberlin(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="has no <class>/<number>.png or .svg, which TU-Berlin is"):
        open_source(tmp_path, "tuberlin")
