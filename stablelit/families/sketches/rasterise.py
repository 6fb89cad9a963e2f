"""Strokes become pictures: anti-aliased lines by the distance to the nearest segment, for a whole batch at once.

A pixel whose centre lies d pixels from the nearest segment of a drawing has the ink

    clamp(w / 2 + 1/2 - d, 0, 1)

for lines w pixels wide: ends are round, a stroke of one point is a disc, and a crossing is no darker than a line.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.families.sketches.stroke_batch import padded
from stablelit.families.sketches.strokes import Strokes
from stablelit.functional.schedules import check_count, check_flag, check_number

# distances held at once: on a processor what its cache holds, on a device some hundred MiB
PATCH_ELEMENTS, DENSE_ELEMENTS = 1 << 17, 1 << 24
# a segment is cut until a square this much larger than its line's own width holds it
PATCH_MARGIN = 3
PICTURES_AT_ONCE = 512


@torch.no_grad()
def rasterise(
    points: Tensor,
    begins: Tensor,
    mask: Tensor,
    size: int = 32,
    line_width: float | Tensor = 1.5,
    pad: float = 0.08,
    fit: bool = True,
    order_channels: int = 0,
) -> Tensor:
    """Draws a `StrokeBatch`; no gradient flows through it.

    On a processor each segment colours a small square about itself, so the cost goes with the lines' length, and
    memory beyond the pictures is some 5 MiB and 200 bytes a segment. On any other device every pixel asks every
    segment, which never waits for the device; of these distances 2^24 at most are held at once (about 400 MiB at the
    peak), or one segment's of each drawing. The pictures are the same up to rounding.

    Args:
        points: ``(B, P, 2)``, x to the right and y down.
        begins: ``(B, P)`` bool, True where a stroke begins.
        mask: ``(B, P)`` bool, True where there is a point; a drawing without any is a blank picture.
        size: S, pixels a side.
        line_width: in pixels, one for all or ``(B,)``.
        pad: share of the picture left free at each side of the drawing's bounding box.
        fit: whether each drawing is fitted into the picture (`fitted`); if not, points are in the unit square that is
            the picture, and what lies outside is cut off.
        order_channels: 0 gives one channel. k gives k: channel c has the first (c + 1) / k of the drawing's points, so
            the last is the whole drawing and the picture knows in what order it came; Sketch-a-Net (Yu et al. 2015,
            arXiv:1501.07873) divides a drawing into three such groups.

    Returns:
        ``(B, max(1, order_channels), S, S)`` float32 in [0, 1], ink 1 on paper 0.

    Raises:
        ConfigurationError: shapes that do not belong together, or an argument outside its range.
    """
    size, channels = (
        check_count("rasterise", "size", size, 1),
        check_count("rasterise", "order_channels", order_channels, 0),
    )
    pad = check_number("rasterise", "pad", pad, at_least=0.0, at_most=0.45)
    if points.ndim != 3 or points.shape[-1] != 2 or begins.shape != points.shape[:2] or mask.shape != points.shape[:2]:
        shapes = f"points {tuple(points.shape)}, begins {tuple(begins.shape)}, mask {tuple(mask.shape)}"
        raise bad_argument("rasterise", "points, begins, mask", shapes, "(B, P, 2), (B, P) and (B, P)")
    radius = _radius(line_width, len(points), points.device)
    points = points.float()
    ends = size * (fitted(points, mask, pad) if check_flag("rasterise", "fit", fit) else points)
    # a stroke's first point is a segment of no length: a dot where nothing follows, under the next segment elsewhere
    before, there_before = ends.roll(1, dims=1), mask.roll(1, dims=1)
    alone = begins | ~there_before
    alone[:, 0] = True
    starts = torch.where(alone[..., None], ends, before)
    draw = _drawn_in_patches if points.device.type == "cpu" else _drawn_densely
    return draw(starts, ends, mask, radius, size, max(1, channels))


def rasterise_all(strokes: Strokes, size: int = 32, line_width: float = 1.5, pad: float = 0.08) -> NDArray[np.uint8]:
    """Every drawing, fitted into its picture, in blocks: ``(n, S, S)`` uint8, ink 255 on paper 0; see `rasterise`."""
    pictures = np.zeros((len(strokes), size, size), dtype=np.uint8)
    # drawings of a like number of points lie together, so that one long one does not pad a whole block
    order = np.argsort(np.diff(strokes.offsets), kind="stable")
    for begin in range(0, len(order), PICTURES_AT_ONCE):
        which = order[begin : begin + PICTURES_AT_ONCE]
        ink = rasterise(*padded(strokes, which), size=size, line_width=line_width, pad=pad)
        pictures[which] = ink[:, 0].mul_(255).round_().to(torch.uint8).numpy()
    return pictures


def fitted(points: Tensor, mask: Tensor, pad: float = 0.08) -> Tensor:
    """Points moved into the unit square: the bounding box centred, its longer side ``1 - 2 pad`` long, aspect kept.

    A drawing without extent lies in the centre.

    Args:
        points: ``(B, P, 2)``.
        mask: ``(B, P)`` bool, True where there is a point; only these count.
        pad: share of the square left free at each side.
    """
    there = mask[..., None]
    low = points.masked_fill(~there, math.inf).amin(1, keepdim=True)
    high = points.masked_fill(~there, -math.inf).amax(1, keepdim=True)
    extent = (high - low).amax(2, keepdim=True)
    scale = torch.where(extent > 0, (1 - 2 * pad) / extent, 0.0)
    # a drawing without points has no box: its points are whatever, and finite
    return torch.where(there, (points - (low + high) / 2) * scale + 0.5, 0.0)


def _radius(line_width: float | Tensor, n: int, device: torch.device) -> Tensor:
    """The distance at which ink ends, ``(B,)``."""
    if isinstance(line_width, Tensor):
        if line_width.shape != (n,):
            raise bad_argument("rasterise", "line_width", tuple(line_width.shape), f"a number or a shape of ({n},)")
        return line_width.to(device, torch.float32) / 2 + 0.5
    width = check_number("rasterise", "line_width", line_width, above=0.0)
    return torch.full((n,), width / 2 + 0.5, device=device)


def _channel(mask: Tensor, channels: int) -> Tensor:
    """Of each point, in which of `channels` parts of its drawing it lies: ``(B, P)``."""
    number = mask.cumsum(1)
    return ((number - 1).clamp_min(0) * channels).div(number[:, -1:].clamp_min(1), rounding_mode="floor")


def _ink(x: Tensor, y: Tensor, along_x: Tensor, along_y: Tensor, radius: Tensor) -> Tensor:
    """The ink of pixels that lie at (x, y) from the start of a segment that is `along` long."""
    length2 = (along_x * along_x + along_y * along_y).clamp_min(1e-12)
    share = (x * (along_x / length2) + y * (along_y / length2)).clamp_(0, 1)
    away_x = torch.addcmul(x, share, along_x, value=-1)
    away_y = torch.addcmul(y, share, along_y, value=-1)
    distance = away_x.mul_(away_x).addcmul_(away_y, away_y).sqrt_()
    return distance.neg_().add_(radius).clamp_(0, 1)


def _drawn_in_patches(starts: Tensor, ends: Tensor, mask: Tensor, radius: Tensor, size: int, channels: int) -> Tensor:
    """Every segment, cut into pieces of a like extent, colours the square that holds its piece."""
    pictures = torch.zeros(len(starts) * channels * size * size)
    drawing = torch.arange(len(starts))[:, None].expand_as(mask)[mask]
    plane = drawing * channels + _channel(mask, channels)[mask]
    starts, along, radius = starts[mask], (ends - starts)[mask], radius[drawing]
    # within an interval of length e lie at most floor(e) + 1 centres of pixels
    widest = 2 * float(radius.max()) if len(radius) else 1.0
    side = min(size, math.ceil(widest) + PATCH_MARGIN)
    pieces = (along.abs().amax(1) / (math.ceil(widest) + PATCH_MARGIN - 0.01 - widest)).ceil().clamp_(min=1).long()
    of_piece = torch.repeat_interleave(pieces)
    number = torch.arange(len(of_piece)) - (pieces.cumsum(0) - pieces)[of_piece]
    pixels = torch.arange(side)
    for begin in range(0, len(of_piece), max(1, PATCH_ELEMENTS // side**2)):
        here = slice(begin, begin + max(1, PATCH_ELEMENTS // side**2))
        of = of_piece[here]
        piece = along[of] / pieces[of, None]
        start = starts[of] + piece * number[here, None]
        reach = radius[of, None]
        # a square that would lie partly outside is moved inside: it still holds every pixel of the picture it held
        corner = (torch.minimum(start, start + piece) - reach - 0.5).ceil_().clamp_(0, size - side)
        first = (plane[of] * size + corner[:, 1].long()) * size + corner[:, 0].long()
        index = first[:, None, None] + (pixels[:, None] * size + pixels)
        offset = (corner + 0.5 - start)[:, :, None] + pixels
        x, y = offset[:, 0, None, :], offset[:, 1, :, None]
        ink = _ink(x, y, piece[:, 0, None, None], piece[:, 1, None, None], reach[..., None])
        pictures.scatter_reduce_(0, index.view(-1), ink.view(-1), "amax")
    pictures = pictures.view(-1, channels, size, size)
    return pictures if channels == 1 else pictures.cummax(1).values


def _drawn_densely(starts: Tensor, ends: Tensor, mask: Tensor, radius: Tensor, size: int, channels: int) -> Tensor:
    """Every pixel asks every segment; only shapes steer, so the device is never waited for."""
    n, n_points = mask.shape
    pictures = torch.zeros(n, channels, size, size, device=starts.device)
    centres = torch.arange(size, device=starts.device) + 0.5
    x, y = centres.view(1, 1, 1, size), centres.view(1, 1, size, 1)
    channel = _channel(mask, channels)
    block = max(1, DENSE_ELEMENTS // max(1, n * size * size))
    for begin in range(0, n_points, block):
        here = slice(begin, begin + block)
        start, along = starts[:, here, :, None, None], (ends - starts)[:, here, :, None, None]
        ink = _ink(x - start[:, :, 0], y - start[:, :, 1], along[:, :, 0], along[:, :, 1], radius.view(-1, 1, 1, 1))
        for c in range(channels):
            shown = mask[:, here] & (channel[:, here] <= c)
            pictures[:, c] = torch.maximum(pictures[:, c], (ink * shown[..., None, None]).amax(1))
    return pictures
