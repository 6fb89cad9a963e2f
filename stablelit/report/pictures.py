"""The pictures that a run has drawn, made small enough to be in the page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from pathlib import Path

from stablelit.report.markup import Markup, element

_WIDEST = 1200
_QUALITIES = (80, 55, 35)
_MOST_PIXELS = 60_000_000
_TYPES = {"PNG": "png", "JPEG": "jpeg"}
BUDGET_BYTES = 1_500_000
"""Of three million in all: the rest is for the curves, and base64 takes a third more."""


def embedded_pictures(
    paths: Iterable[Path], root: Path, remarks: list[str], budget: int = BUDGET_BYTES
) -> list[Markup]:
    """A figure for each picture, within the budget; what cannot be read or does not fit is said in `remarks`.

    Small ones are taken as they are; what is larger than its share is made smaller and becomes WebP.

    Args:
        paths: files.
        root: the directory of the figures; what is below it names a picture.
        remarks: gets a sentence for each that is left out.
        budget: bytes for all.
    """
    held = [(path, path.stat().st_size) for path in paths]
    left, waiting = budget, len(held)
    most: dict[Path, int] = {}
    # what the small ones do not need is for the large ones
    for path, size in sorted(held, key=lambda pair: pair[1]):
        most[path] = left // waiting
        left -= min(size, most[path])
        waiting -= 1
    shown = []
    for path, size in held:
        title = path.relative_to(root).with_suffix("").as_posix().replace("_", " ").replace("/", ": ")
        try:
            data, kind, width, height = _as_it_is(path) if size <= most[path] else _made_small(path, most[path])
        except Exception as error:  # a decoder meets whatever bytes there are
            remarks.append(f"{path.name}: a picture that cannot be shown: {str(error)[:100] or type(error).__name__}.")
            continue
        source = f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
        alt = f"{title}, a picture that the run drew"
        image = element("img", src=source, width=width, height=height, alt=alt)
        shown.append(element("figure", element("figcaption", element("h3", title)), image))
    return shown


def _as_it_is(path: Path) -> tuple[bytes, str, int, int]:
    from PIL import Image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data), formats=list(_TYPES)) as opened:
        kind, width, height = _TYPES[str(opened.format)], opened.width, opened.height
        opened.verify()
    return data, kind, width, height


def _made_small(path: Path, most_bytes: int) -> tuple[bytes, str, int, int]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=list(_TYPES)) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels")
            # transparent ink is black on what it lies on: here that is white
            picture = Image.new("RGB", opened.size, "white")
            converted = opened.convert("RGBA")
            picture.paste(converted, mask=converted.getchannel("A"))
    size = 0
    for place, quality in enumerate(_QUALITIES):
        picture.thumbnail((_WIDEST >> place, 2 * _WIDEST >> place))
        held = io.BytesIO()
        picture.save(held, "WEBP", quality=quality, method=2)
        size = held.tell()
        if size <= most_bytes:
            return held.getvalue(), "webp", picture.width, picture.height
    raise ValueError(f"{size // 1024} KiB where {most_bytes // 1024} are left")
