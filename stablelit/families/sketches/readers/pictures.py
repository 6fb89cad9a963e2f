"""Pictures of sketches: files that Pillow decodes, in folders by class.

Reads   PNG, JPEG, BMP, WebP, GIF (its first picture), in a folder or a zip
Class   the folder of a file; of a flat folder none (-1)
Makes   (n, S, S) uint8, ink 255 on paper 0, averaged over areas, aspect kept, centred
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.sketches.readers.gathering import Gathering, LeaveOut, Request
from stablelit.families.sketches.readers.source_files import SketchFiles, Unreadable, of_folders
from stablelit.families.sketches.sketches import SHOWN, Sketches
from stablelit.families.sketches.told import say

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
# told by its bytes, a file of any name could be of any of Pillow's formats: EPS is given to a program, Ghostscript
_DECODED = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
MOST_PIXELS = 1 << 25
"""5,792 x 5,792, of which the decoder holds up to four bytes each; a JPEG, which is decoded smaller, may be larger."""
BLANK = "blank or constant picture"
# of sketches on paper, the mean ink; outside, they are blank, or ink and paper are confused
INK_FROM, INK_TO = 0.005, 0.5


@dataclass(frozen=True)
class Picture:
    """A picture of at most S x S pixels in grey, 0 black, and how bright its border is (the median)."""

    grey: NDArray[np.uint8]
    border: float


def read_pictures(files: SketchFiles, request: Request) -> Sketches:
    """Reads folders of pictures.

    Raises:
        DataError: too many bad files, a file that is too large to be decoded, nothing that can be used.
    """
    classes, note = of_folders(files.of(SUFFIXES))
    if note:
        say(f"{files.path}: {note}.")
    return read_pictures_of(files, classes, request)


def read_pictures_of(
    files: SketchFiles,
    classes: Mapping[str | None, Sequence[str]],
    request: Request,
    group_of: Callable[[str], str] | None = None,
) -> Sketches:
    """Reads the pictures of these files, by class."""
    gathering: Gathering[Picture] = Gathering(files.path)

    def read(name: str) -> Picture:
        return decoded(files.read(name), request.size, files.place(name))

    gathering.take_files(files, classes, read, request)
    images = inked(gathering.contents, request.size, request.invert, gathering.places, str(files.path))
    return gathering.sketches(images, group_of)


def decoded(data: bytes, size: int, place: str) -> Picture:
    """The picture in a file, decoded once and made small.

    Raises:
        Unreadable: no picture, or a damaged one.
        LeaveOut: all of its pixels are the same.
        DataError: more pixels than `MOST_PIXELS`, or than Pillow decodes (`PIL.Image.MAX_IMAGE_PIXELS`), which is how
            hostile files look.
    """
    image_module = pillow()
    bombs = (image_module.DecompressionBombError, image_module.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            # Pillow refuses only what is twice too large
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(io.BytesIO(data), formats=_DECODED) as image:
                # a JPEG can be decoded at an eighth of its size; others take no notice
                image.draft("L", (2 * size, 2 * size))
                _check_pixels(image.size, place)
                grey = _grey(image, image_module)
    except DataError:
        raise
    except bombs as error:
        raise DataError(
            f"{place}: {str(error).rstrip('.')}. Allowed: {image_module.MAX_IMAGE_PIXELS} pixels, so that no file can "
            f"fill the memory. Make it smaller, or take it away."
        ) from error
    except image_module.UnidentifiedImageError as error:
        # its own message has an address in memory in the place of a name
        kinds = ", ".join(_DECODED)
        raise Unreadable(f"UnidentifiedImageError: no kind of picture that is decoded ({kinds})") from error
    except Exception as error:
        # the decoders raise whatever comes of damaged bytes
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    pixels = np.asarray(grey)
    border = float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
    longest = max(grey.size)
    small = tuple(max(1, round(edge * size / longest)) for edge in grey.size)
    how = image_module.Resampling.BOX if longest >= size else image_module.Resampling.BILINEAR
    pixels = np.array(grey.resize(small, how))
    if pixels.min() == pixels.max():
        raise LeaveOut(BLANK)
    return Picture(pixels, border)


def inked(
    pictures: Sequence[Picture], size: int, invert: bool | Literal["auto"], places: Sequence[str], path: str
) -> NDArray[np.uint8]:
    """The pictures as ink 255 on paper 0, ``(n, S, S)``, each in the middle of empty paper.

    All are inverted, or none: where `invert` is "auto", by whether most of their borders are white.
    """
    if not pictures:
        return np.zeros((0, size, size), dtype=np.uint8)
    white = np.array([picture.border > 127.5 for picture in pictures])
    is_white = float(np.median([picture.border for picture in pictures])) > 127.5
    if invert == "auto":
        what = "white: inverted, so that ink is 1 on 0" if is_white else "black: not inverted"
        say(f"{path}: the borders of most of {len(pictures)} pictures are {what}.")
        if len(odd := np.flatnonzero(white != is_white)):
            shown = ", ".join(places[i] for i in odd[:SHOWN])
            say(f"{path}: {len(odd)} pictures have the other border, and are taken as the others are ({shown}).")
    flipped = is_white if invert == "auto" else invert
    images = np.zeros((len(pictures), size, size), dtype=np.uint8)
    for image, picture in zip(images, pictures, strict=True):
        height, width = picture.grey.shape
        top, left = (size - height) // 2, (size - width) // 2
        image[top : top + height, left : left + width] = 255 - picture.grey if flipped else picture.grey
    if not INK_FROM < (mean := float(images.mean(dtype=float)) / 255) < INK_TO:
        say(
            f"{path}: inverted or blank: the mean ink is {mean:.4f}, that of sketches {INK_FROM} to {INK_TO}. "
            f"Look at them, and set data.invert=true (dark ink on light paper) or false."
        )
    return images


def _check_pixels(size: tuple[int, int], place: str) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(
            f"{place}: has {size[0]} x {size[1]} pixels. Allowed: {MOST_PIXELS} in all, so that no file can fill the "
            f"memory. Make it smaller, or take it away."
        )


def _grey(image: Any, image_module: Any) -> Any:
    from PIL import ImageOps

    if image.mode.startswith("I"):
        # 16 bits: conversion would cut at 255
        return image_module.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        paper = image_module.new("L", image.size, 255)
        paper.paste(image.convert("L"), mask=image.getchannel("A"))
        return paper
    return image.convert("L")


def pillow() -> Any:
    """`PIL.Image`.

    Raises:
        MissingDependencyError: Pillow is not there.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("Pictures need Pillow. Install it with: pip install pillow") from error
    return Image
