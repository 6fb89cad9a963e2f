"""Two looks at one drawing as it was drawn: strokes are left out, bent and moved, for a whole batch on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablelit.families.sketches.augmentation import check_span
from stablelit.families.sketches.rasterise import fitted, rasterise
from stablelit.families.sketches.stroke_batch import StrokeBatch
from stablelit.functional.schedules import check_number

WARP_WAVES = 3


class StrokeAugment:
    """Random changes of drawings that are strokes; every drawing has its own.

    Each drawing is fitted into the unit square first, so lengths below are shares of the picture. Then, in this order:
    a prefix, lost strokes, each stroke's own move, the pen's tremor, a smooth warp, and one move of the whole. What
    ends outside the square is outside the picture.

    Strokes are lost by the law of Sketch-a-Net's second version (Yu et al. 2017, IJCV 122), whose form and constants
    are given here from memory: what is drawn late and short is detail and goes first,

        q_s  proportional to  exp(a o_s) / exp(b l_s)

    with o_s the stroke's place in the drawing, from 0 to 1, and l_s its share of the drawing's ink. Here q_s is scaled
    so that its mean over a drawing's strokes is `drop`, and cut at 1; strokes are lost independently. One always stays.

    Nothing asks the device for a value, and nothing runs over drawings or strokes.

    Args:
        probability: share of the drawings that each of the changes below happens to, each by itself.
        drop: share of a drawing's strokes that are lost, in [0, 1).
        drop_order: a, how much later strokes go first.
        drop_length: b, how much shorter strokes go first.
        prefix: smallest share of the strokes, from the first on, that is left, in (0, 1]; 1 leaves all.
        stroke_jitter: standard deviation of a stroke's own move: its shift, its angle in radians and the logarithm of
            its scale, about the stroke's mean.
        point_jitter: standard deviation of each point's own shift.
        warp: standard deviation of the smooth shift: three waves of about a period in the picture.
        rotation: largest angle in degrees, either way.
        scale: smallest and largest factor by which a drawing grows.
        shear: largest slant, either way: by how much x moves for a move of y.
        translate: largest shift along either axis.
        width: smallest and largest factor by which lines grow wider.
        pad: share of the picture left free at each side before anything moves.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self,
        probability: float = 0.8,
        drop: float = 0.15,
        drop_order: float = 1.0,
        drop_length: float = 1.0,
        prefix: float = 1.0,
        stroke_jitter: float = 0.03,
        point_jitter: float = 0.004,
        warp: float = 0.015,
        rotation: float = 15.0,
        scale: Sequence[float] = (0.8, 1.2),
        shear: float = 0.2,
        translate: float = 0.1,
        width: Sequence[float] = (0.7, 1.5),
        pad: float = 0.08,
    ) -> None:
        owner = type(self).__name__
        self.probability = check_number(owner, "probability", probability, at_least=0.0, at_most=1.0)
        self.drop = check_number(owner, "drop", drop, at_least=0.0, at_most=0.9)
        self.drop_order = check_number(owner, "drop_order", drop_order, at_least=0.0, at_most=20.0)
        self.drop_length = check_number(owner, "drop_length", drop_length, at_least=0.0, at_most=20.0)
        self.prefix = check_number(owner, "prefix", prefix, above=0.0, at_most=1.0)
        self.stroke_jitter = check_number(owner, "stroke_jitter", stroke_jitter, at_least=0.0, at_most=0.5)
        self.point_jitter = check_number(owner, "point_jitter", point_jitter, at_least=0.0, at_most=0.2)
        self.warp = check_number(owner, "warp", warp, at_least=0.0, at_most=0.2)
        self.rotation = check_number(owner, "rotation", rotation, at_least=0.0, at_most=180.0)
        self.scale = check_span(owner, "scale", scale, above=0.0)
        self.shear = check_number(owner, "shear", shear, at_least=0.0, at_most=1.0)
        self.translate = check_number(owner, "translate", translate, at_least=0.0, at_most=0.5)
        self.width = check_span(owner, "width", width, above=0.0)
        self.pad = check_number(owner, "pad", pad, at_least=0.0, at_most=0.45)

    @torch.no_grad()
    def __call__(
        self, points: Tensor, begins: Tensor, mask: Tensor, generator: torch.Generator | None = None
    ) -> tuple[StrokeBatch, Tensor]:
        """Drawings in the unit square of the picture, and by what factor each one's lines are wider, ``(B,)``.

        `rasterise` draws them with ``fit=False``: fitted again, what has moved would move back.

        Args:
            points: ``(B, P, 2)``, in whatever unit.
            begins: ``(B, P)`` bool, True where a stroke begins.
            mask: ``(B, P)`` bool, True where there is a point.
            generator: of the points' device; the device's own if None.
        """
        # half precision would shake the points by a pixel
        with torch.autocast(points.device.type, enabled=False):
            return self._augmented(points, begins, mask, _Draw(len(points), points.device, generator, self.probability))

    def views(
        self,
        points: Tensor,
        begins: Tensor,
        mask: Tensor,
        size: int = 32,
        line_width: float = 1.5,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Two pictures of each drawing, ``(2, B, 1, S, S)`` float32, ink 1 on paper 0, by one call.

        Args:
            points: as above.
            begins: as above.
            mask: as above.
            size: S, pixels a side.
            line_width: in pixels, before `width` changes it.
            generator: as above.
        """
        points, begins, mask = (torch.cat([tensor, tensor]) for tensor in (points, begins, mask))
        changed, factor = self(points, begins, mask, generator)
        pictures = rasterise(*changed, size=size, line_width=line_width * factor, fit=False)
        return pictures.unflatten(0, (2, -1))

    def _augmented(self, points: Tensor, begins: Tensor, mask: Tensor, draw: _Draw) -> tuple[StrokeBatch, Tensor]:
        points = fitted(points.float(), mask, self.pad)
        stroke = ((begins & mask).cumsum(1) - 1).clamp_min(0)
        mask = self._left(points, begins, mask, stroke, draw)
        if self.stroke_jitter > 0:
            points = self._moved_by_stroke(points, mask, stroke, draw)
        if self.point_jitter > 0:
            points = points + self.point_jitter * draw.happens() * draw.normal(*points.shape[1:])
        if self.warp > 0:
            points = self._warped(points, draw)
        points = self._moved(points, draw)
        low, high = self.width
        factor = 1 + draw.happens()[:, 0, 0] * (low + (high - low) * draw.uniform() - 1)
        return StrokeBatch(points, begins, mask), factor

    def _left(self, points: Tensor, begins: Tensor, mask: Tensor, stroke: Tensor, draw: _Draw) -> Tensor:
        """The mask, without the strokes that are lost."""
        # there are never more strokes than points, and to ask how many would be to wait for the device
        n_strokes = (begins & mask).sum(1, keepdim=True)
        number = torch.arange(mask.shape[1], device=mask.device)
        there = number < n_strokes
        if self.prefix < 1:
            share = 1 - draw.happens()[:, 0] * (1 - self.prefix) * draw.uniform()[:, None]
            there = there & (number < (share * n_strokes).ceil())
        if self.drop > 0:
            loss = draw.happens()[:, 0] * self._loss(points, begins, mask, stroke, there)
            spared = (draw.uniform(mask.shape[1]) - loss).masked_fill(~there, -math.inf)
            # the stroke that chance spares most stays in any case
            there = there & ((spared >= 0) | (spared == spared.amax(1, keepdim=True)))
        return mask & there.gather(1, stroke)

    def _loss(self, points: Tensor, begins: Tensor, mask: Tensor, stroke: Tensor, there: Tensor) -> Tensor:
        """q_s of each stroke, ``(B, P)``."""
        step = (points - points.roll(1, dims=1)).norm(dim=-1) * (mask & ~begins)
        length = torch.zeros_like(step).scatter_add_(1, stroke, step)
        length = length / length.sum(1, keepdim=True).clamp_min(1e-9)
        count = there.sum(1, keepdim=True)
        order = torch.arange(mask.shape[1], device=mask.device) / (count - 1).clamp_min(1)
        weight = (self.drop_order * order - self.drop_length * length).masked_fill(~there, -math.inf).softmax(1)
        return (self.drop * count * weight).clamp(max=1.0)

    def _moved_by_stroke(self, points: Tensor, mask: Tensor, stroke: Tensor, draw: _Draw) -> Tensor:
        n_points, pair = mask.shape[1], stroke[..., None].expand_as(points)
        total = torch.zeros_like(points).scatter_add_(1, pair, points * mask[..., None])
        count = torch.zeros_like(points).scatter_add_(1, pair, mask[..., None].expand_as(points).float())
        centre = (total / count.clamp_min(1)).gather(1, pair)
        move = self.stroke_jitter * draw.happens() * draw.normal(n_points, 4)
        move = move.gather(1, stroke[..., None].expand(*stroke.shape, 4))
        x, y = (points - centre).unbind(-1)
        scale = move[..., 0].exp()
        cosine, sine = scale * move[..., 1].cos(), scale * move[..., 1].sin()
        return centre + move[..., 2:] + torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)

    def _warped(self, points: Tensor, draw: _Draw) -> Tensor:
        # a wave a sin(k p + phase) with a standard normal of a, over a random phase, has the variance 1/2
        amplitude = self.warp * math.sqrt(2 / WARP_WAVES) * draw.happens() * draw.normal(WARP_WAVES, 2)
        frequency = 2 * math.pi * draw.normal(2, WARP_WAVES)
        phase = 2 * math.pi * draw.uniform(1, WARP_WAVES)
        return points + torch.sin(points @ frequency + phase) @ amplitude

    def _moved(self, points: Tensor, draw: _Draw) -> Tensor:
        on = draw.happens()[:, 0, 0]
        angle = on * math.radians(self.rotation) * draw.either_way()
        low, high = self.scale
        scale = 1 + on * (low + (high - low) * draw.uniform() - 1)
        shear = on * self.shear * draw.either_way()
        shift = on[:, None] * self.translate * draw.either_way(2)
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        # a slant first, then a turn: columns are the images of the axes
        matrix = torch.stack([cosine, sine, shear * cosine - sine, shear * sine + cosine], 1).view(-1, 2, 2)
        return (points - 0.5) @ matrix + (0.5 + shift)[:, None]


class _Draw:
    """Random numbers of n drawings, on their device."""

    def __init__(self, n: int, device: torch.device, generator: torch.Generator | None, probability: float) -> None:
        self.n, self.how, self.probability = n, {"device": device, "generator": generator}, probability

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.n, *shape, **self.how)

    def either_way(self, *shape: int) -> Tensor:
        return 2 * self.uniform(*shape) - 1

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.n, *shape, **self.how)

    def happens(self) -> Tensor:
        """1 or 0, ``(n, 1, 1)``."""
        return (self.uniform(1, 1) < self.probability).float()
