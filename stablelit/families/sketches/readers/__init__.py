"""Readers of sketches, and which of them a path is for. One format a file; a new format is one entry of `_READERS`.

| format | told by | what is read | becomes |
|---|---|---|---|
| tuberlin | filelist.txt, and a folder of .svg or .png a class | TU-Berlin as released, 250 classes of 80 | strokes or pictures |
| quickdraw | .ndjson | Quick, Draw!, simplified or raw: a drawing a line; class from `word` | strokes |
| omniglot_strokes | <alphabet>/character<NN>/<XXXX>_<YY>.txt | Omniglot's pen strokes; alphabets are groups | strokes |
| omniglot_images | the same, .png | Omniglot's pictures | pictures |
| svg | .svg in class folders, or in one folder | paths and simple shapes, with their transforms | strokes |
| images | .png .jpg .bmp .webp .gif likewise | ink on paper; which of them is bright is found out, or said | pictures |
| stroke3 | a file .npz | flat arrays points, begins, offsets, labels, classes (`write_strokes`) | strokes |
| digits | the path "digits" | scikit-learn's digits, 8 x 8 enlarged; needs scikit-learn | pictures |

Folders can be zips as well (read where they are). Whatever the format: classes are sorted, x points right and y down, ink
is 255 on paper 0. A class of one sketch, blank pictures and empty drawings are left out and counted; so are unreadable
files and lines, up to 1 % of them (or 3), above which all are refused. Exact copies are kept and told.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.sketches.readers import pictures, quickdraw, svg, tuberlin
from stablelit.families.sketches.readers.digits import read_digits
from stablelit.families.sketches.readers.gathering import Request
from stablelit.families.sketches.readers.omniglot import omniglot_classes, read_omniglot_images, read_omniglot_strokes
from stablelit.families.sketches.readers.source_files import SketchFiles
from stablelit.families.sketches.readers.stroke3 import read_stroke3, strokes_of_stroke3, write_strokes
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.told import say
from stablelit.functional.schedules import check_count, check_flag

__all__ = ["FORMATS", "format_of", "open_source", "strokes_of_stroke3", "write_strokes"]

_READERS: dict[str, Callable[[SketchFiles, Request], Sketches]] = {
    "images": pictures.read_pictures,
    "tuberlin": tuberlin.read_tuberlin,
    "quickdraw": quickdraw.read_quickdraw,
    "svg": svg.read_svg,
    "omniglot_images": read_omniglot_images,
    "omniglot_strokes": read_omniglot_strokes,
}
FORMATS = (*_READERS, "stroke3", "digits")
_LOOKED_FOR = (
    "Looked for, in a folder or a zip: <class>/<any>.png .jpg .bmp .webp .gif (images) or .svg (svg); filelist.txt "
    "beside <class>/<number>.png or .svg (tuberlin); .ndjson (quickdraw); <alphabet>/character<NN>/<XXXX>_<YY>.png or "
    ".txt (omniglot_images, omniglot_strokes); a file .npz (stroke3); 'digits'."
)
# of files that lie beside those of a format, kinds that nobody misses
_BESIDE = (".md", ".txt", ".json", ".csv", ".html", ".pdf", ".db", "license", "readme")
_OWNER = "open_source"


def format_of(path: str | Path) -> str:
    """Which of `FORMATS` a path is.

    Raises:
        DataError: nothing there, or none of them; what was looked for is said.
    """
    if str(path) == "digits" and not Path(path).exists():
        return "digits"
    path = _existing(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return "stroke3"
    with SketchFiles(path) as files:
        if tuberlin.is_tuberlin(files.names):
            return "tuberlin"
        if files.of(quickdraw.SUFFIXES):
            return "quickdraw"
        for name, suffix in (("omniglot_strokes", "txt"), ("omniglot_images", "png")):
            if omniglot_classes(files.names, suffix):
                return name
        for name, suffixes in (("svg", svg.SUFFIXES), ("images", pictures.SUFFIXES)):
            if files.of(suffixes):
                return name
        there = ", ".join(files.names[:5]) + f", ... ({len(files.names)} files)" * (len(files.names) > 5) or "nothing"
    raise DataError(f"{path}: is none of the formats. {_LOOKED_FOR} There is: {there}.")


def open_source(
    path: str | Path,
    format: str = "auto",
    size: int = 32,
    *,
    max_per_class: int | None = None,
    recognized_only: bool = True,
    invert: bool | Literal["auto"] = "auto",
    seed: int = 0,
) -> Sketches:
    """Reads sketches of any format into memory, as strokes where the files have them, otherwise as pictures.

    Args:
        path: a folder, a zip or a file; "digits".
        format: one of `FORMATS`, or "auto", which goes by what lies there.
        size: S, the edge of a picture in pixels; strokes have none yet.
        max_per_class: sketches of a class at most: of files drawn by the seed, of lines and arrays the first; None is
            all.
        recognized_only: of Quick, Draw! only drawings that its game had recognized.
        invert: whether pictures are dark ink on light paper; "auto" goes by most of their borders, and says so.
        seed: of which files of a class are taken.

    Returns:
        The sketches; `left_out` says what is not among them. What is done to all of them is printed.

    Raises:
        ConfigurationError: an argument outside its range.
        DataError: a path that cannot be used, too many bad files or lines, a file that is not to be trusted.
    """
    if format != "auto" and format not in FORMATS:
        raise bad_argument(_OWNER, "format", format, "auto, " + ", ".join(FORMATS), did_you_mean(str(format), FORMATS))
    if not isinstance(invert, bool) and invert != "auto":
        raise bad_argument(_OWNER, "invert", invert, "auto, true or false")
    request = Request(
        size=check_count(_OWNER, "size", size, 8),
        max_per_class=None if max_per_class is None else check_count(_OWNER, "max_per_class", max_per_class, 2),
        recognized_only=check_flag(_OWNER, "recognized_only", recognized_only),
        invert=invert,
        seed=check_count(_OWNER, "seed", seed, 0),
    )
    chosen = format_of(path) if format == "auto" else format
    if chosen == "digits":
        return read_digits(request)
    found = _existing(path)
    if chosen == "stroke3":
        return read_stroke3(found, request)
    with SketchFiles(found) as files:
        suffixes = _SUFFIXES[chosen]
        if not files.of(suffixes):
            there = ", ".join(files.names[:5]) or "nothing"
            raise DataError(f"{path}: has no {' '.join(suffixes)} ({chosen}). {_LOOKED_FOR} There is: {there}.")
        others = [n for n in files.names if not n.lower().endswith((*suffixes, *_BESIDE))]
        if format == "auto" and others:
            say(f"{path}: read as {chosen}; {len(others)} files of other kinds are not read ({', '.join(others[:3])}).")
        return _READERS[chosen](files, request)


_SUFFIXES: dict[str, tuple[str, ...]] = {
    "images": pictures.SUFFIXES,
    "tuberlin": (".svg", ".png"),
    "quickdraw": quickdraw.SUFFIXES,
    "svg": svg.SUFFIXES,
    "omniglot_images": (".png",),
    "omniglot_strokes": (".txt",),
}


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        near = did_you_mean(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise DataError(f"{path}: there is no such file or folder. {near} {_LOOKED_FOR}".replace("  ", " "))
    return path
