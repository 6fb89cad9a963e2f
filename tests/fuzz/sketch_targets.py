"""The readers of sketches."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stablelit.families.sketches.opened_sketches import pictures_of
from stablelit.families.sketches.readers import open_source
from tests.fuzz.mutators import BYTES, JSON, NPY, PICTURE, TEXT, XML, within_zip
from tests.fuzz.target import Target, one_file

_SVG = b"""<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg viewBox="0 0 800 800" xmlns="http://www.w3.org/2000/svg"><g transform="translate(0,0) scale(1.5) rotate(30 4 4)">
<path id="0" d="M 10 20 C 30 40 50 60 70 80 S 1 2 3 4 Q 5 5 6 7 T 8 9 a 25,25 -30 0,1 50,-25 l 5 5 z m1 1h4v5H9V2Z"/>
<polyline points="1,2 3,4 5,6"/><polygon points="0 0 9 0 9 9"/><line x1="0" y1="0" x2="9px" y2="9"/>
<rect x="1" y="1" width="5" height="6"/><circle cx="5" cy="5" r="2"/><ellipse cx="5" cy="5" rx="2" ry="3"/>
<text>no</text><g style="display:none"><path d="M0 0L1 1"/></g><defs><path d="M0 0"/></defs></g></svg>
"""
_STROKES = b"START\n1.0,-2.0,0.0\n3.5,-4.0,12.0\n-5.0,-6.25,30\nBREAK\n1,1,1\n2,-9,2\nBREAK\n"
_DRAWINGS = b"".join(
    json.dumps({"word": "cat", "recognized": i != 2, "drawing": [[[0, i, 25], [4, 255, 9]], [[7], [i]]]}).encode()
    + b"\n"
    for i in range(5)
)


def _read(path: Path, format: str) -> object:
    """As a data module does: read, and drawn where there are strokes."""
    return pictures_of(open_source(path, format, size=16), 16, 1.5)


def _in_classes(name: str, others: bytes, *contents: bytes) -> Callable[[Path], list[Path]]:
    """The changed file, and valid ones beside it, so that a bad one is left out and the others are read."""
    write = one_file(name, *contents)

    def both(folder: Path) -> list[Path]:
        paths = write(folder)
        for i in range(4):
            beside = paths[0].with_name(paths[0].name.replace("01", f"1{i}"))
            beside.write_bytes(others)
        return paths

    return both


def _picture(kind: str, mode: str) -> bytes:
    from PIL import Image

    ink = np.full((24, 20), 255, dtype=np.uint8)
    ink[4:9, 3:15] = np.arange(12) * 9
    image = Image.fromarray(ink).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _pictures(folder: Path) -> list[Path]:
    kinds = [("PNG", m) for m in ("L", "RGBA", "P", "1", "I;16", "LA")] + [("JPEG", "L"), ("BMP", "RGB"), ("GIF", "P")]
    contents = [_picture(kind, mode) for kind, mode in [*kinds, ("WEBP", "RGB")]]
    # what a file is called says nothing: programs that Pillow would run, and formats that nobody asked for
    contents += [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n", _picture("TIFF", "L")]
    return _in_classes("cat/01.png", contents[0], *contents)(folder)


def _stroke3(folder: Path) -> list[Path]:
    points = np.arange(40.0).reshape(20, 2)
    begins = np.arange(20) % 5 == 0
    arrays = {"points": points, "begins": begins, "offsets": np.array([0, 5, 10, 15, 20])}
    named = {"labels": np.array([0, 0, 1, 1]), "classes": np.array(["cat", "dog"]), "groups": np.array(["a", "b"])}
    for i, these in enumerate((arrays | named, arrays)):
        np.savez_compressed(folder / f"a{i}.npz", **these)
    return [folder / "a0.npz", folder / "a1.npz"]


def _zip(folder: Path) -> list[Path]:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"cat/{i}.svg", _SVG)
            archive.writestr(f"dog/{i}.svg", _SVG)
    return [folder / "a.zip"]


def _tuberlin(folder: Path) -> list[Path]:
    for name in ("cat", "dog"):
        (folder / "svg" / name).mkdir(parents=True)
        for i in range(2):
            (folder / "svg" / name / f"{i}.svg").write_bytes(_SVG)
    (folder / "svg" / "filelist.txt").write_text("cat/0.svg\ncat/1.svg\ndog/0.svg\nowl/2.svg\n")
    return [folder / "svg" / "filelist.txt"]


TARGETS = (
    Target("sketches-svg", _in_classes("cat/01.svg", _SVG, _SVG), lambda p: _read(p.parents[1], "svg"), XML),
    Target("sketches-svg-alone", one_file("a.svg", _SVG), lambda p: _read(p, "svg"), XML),
    Target("sketches-quickdraw", one_file("full_raw_cat.ndjson", _DRAWINGS), lambda p: _read(p, "quickdraw"), JSON),
    Target(
        "sketches-omniglot-strokes",
        _in_classes("Latin/character01/0001_01.txt", _STROKES, _STROKES),
        lambda p: _read(p.parents[2], "omniglot_strokes"),
        TEXT,
    ),
    Target("sketches-pictures", _pictures, lambda p: _read(p.parents[1], "images"), PICTURE),
    Target("sketches-stroke3", _stroke3, lambda p: _read(p, "stroke3"), within_zip(NPY)),
    Target("sketches-zip", _zip, lambda p: _read(p, "auto"), (*within_zip(XML), *BYTES), quick=25),
    Target("sketches-tuberlin-list", _tuberlin, lambda p: _read(p.parents[1], "auto"), TEXT, quick=25),
)
