"""The TU-Berlin sketches as released: png/ or svg/, a folder a class, and filelist.txt; 250 classes of 80.

Source  Eitz, Hays and Alexa, "How Do Humans Sketch Objects?", ACM Transactions on Graphics 31 (2012)
"""

from __future__ import annotations

from collections.abc import Sequence

from stablelit.errors import DataError
from stablelit.families.sketches.readers.gathering import Request
from stablelit.families.sketches.readers.pictures import read_pictures_of
from stablelit.families.sketches.readers.source_files import SketchFiles, Unreadable
from stablelit.families.sketches.readers.svg import read_svg_of
from stablelit.families.sketches.sketches import Sketches
from stablelit.families.sketches.told import say

LIST = "filelist.txt"
MISSING = f"named in {LIST} and not there"
N_CLASSES, PER_CLASS = 250, 80


def is_tuberlin(names: Sequence[str]) -> bool:
    """Whether files are laid out so: filelist.txt and class folders of .png or .svg."""
    return any(name.rpartition("/")[2] == LIST for name in names) and bool(_of(names, ".png") or _of(names, ".svg"))


def read_tuberlin(files: SketchFiles, request: Request) -> Sketches:
    """Reads the strokes where there are .svg, otherwise the pictures.

    Raises:
        DataError: neither, and as the readers of SVG and of pictures.
    """
    vectors, pictures = _of(files.names, ".svg"), _of(files.names, ".png")
    if not vectors and not pictures:
        raise DataError(f"{files.path}: has no <class>/<number>.png or .svg, which TU-Berlin is. Name its folder.")
    chosen = vectors or pictures
    if vectors and pictures:
        say(f"{files.path}: has .svg and .png of the sketches: strokes are read. Name its folder png for the pictures.")
    classes: dict[str | None, list[str]] = {}
    for name in chosen:
        classes.setdefault(name.split("/")[-2], []).append(name)
    missing = _missing(files, chosen)
    n_files = sum(map(len, classes.values()))
    if (len(classes), n_files) != (N_CLASSES, N_CLASSES * PER_CLASS):
        say(f"{files.path}: {len(classes)} classes, {n_files} files; TU-Berlin has {N_CLASSES} of {PER_CLASS} each.")
    sketches = read_svg_of(files, classes, request) if vectors else read_pictures_of(files, classes, request)
    for place in missing:
        sketches.left_out.add(MISSING, place)
    return sketches


def _of(names: Sequence[str], suffix: str) -> list[str]:
    return [name for name in names if name.lower().endswith(suffix) and "/" in name]


def _missing(files: SketchFiles, chosen: Sequence[str]) -> list[str]:
    there = {"/".join(name.split("/")[-2:]) for name in chosen}
    missing: list[str] = []
    for name in files.names:
        folder, _, last = name.rpartition("/")
        # a list beside the other kind of files is not ours
        if last != LIST or not any(c.startswith(f"{folder}/" if folder else "") for c in chosen):
            continue
        try:
            lines = files.read(name).decode("utf-8", "replace").splitlines()
        except Unreadable as why:
            say(f"{files.place(name)}: cannot be read ({why}), and is not compared with what is there.")
            continue
        named = [line.strip() for line in lines if line.strip()]
        missing += [f"{files.place(name)}: {n}" for n in named if "/".join(n.split("/")[-2:]) not in there]
    return missing
