"""Two looks at one picture: shape, width and gaps change, for a whole batch at once, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelit.errors import bad_argument
from stablelit.functional.schedules import check_count, check_number

PIXELS_AT_ONCE = 1 << 19


class SketchAugment(nn.Module):
    """Random changes of a drawing that leave it what it is; every sample has its own.

    In this order: one resampling (crop, turn, shear, scale, shift, mirror and elastic warp together, so that lines are
    smoothed once), then the width of the lines, then an erased rectangle.

    Operations on colour (jitter, grey, solarisation) do not exist here on purpose. Ink has one channel and two values:
    there they do nothing, and a recipe that lists them looks stronger than its views are; two views that hardly differ
    make a contrastive loss fall at once and teach nothing. Upside down is missing too: it makes a 6 a 9.

    Nothing asks the device for a value, and nothing runs over samples; under autocast all arithmetic stays in float32.
    Random numbers are those of the picture's device, so `seed_everything` is enough to have them again.

    Args:
        rotation: largest angle in degrees, either way.
        scale: smallest and largest factor by which a drawing grows; the same along both axes.
        shear: largest slant, either way: by how much x moves for a move of y.
        translate: largest shift along either axis, as a share of the picture.
        affine_probability: share of the samples that the four above change.
        elastic: standard deviation of the warp as a share of the picture: displacements on a grid of `elastic_points` x
            `elastic_points`, smoothly between.
        elastic_points: how fine the warp is, at least 2.
        elastic_probability: share of the samples that it changes.
        width: how far a line may grow or shrink, in [0, 1]: 1 takes the largest (or smallest) of the 3 x 3 pixels
            around, which is a pixel at each side; less blends.
        width_probability: share of the samples that it changes; half grow and half shrink.
        erase: largest side of the erased rectangle, as a share of the picture; the smallest is half of it.
        erase_probability: share of the samples that lose one.
        flip_probability: share of the samples that are mirrored left to right; 0, because characters are not the same
            mirrored.
        crop: smallest share of the picture's area that a crop leaves, in [0.5, 1]; 1 crops nothing. Crops as small as
            those of photographs (0.08) show empty paper.
        paper: value of blank paper: 0 for ink 1 on 0; 255 (or 1) for dark ink on white.

    Raises:
        ConfigurationError: an argument outside its range.
    """

    def __init__(
        self,
        rotation: float = 15.0,
        scale: Sequence[float] = (0.8, 1.2),
        shear: float = 0.2,
        translate: float = 0.1,
        affine_probability: float = 1.0,
        elastic: float = 0.02,
        elastic_points: int = 4,
        elastic_probability: float = 0.5,
        width: float = 0.7,
        width_probability: float = 0.5,
        erase: float = 0.3,
        erase_probability: float = 0.3,
        flip_probability: float = 0.0,
        crop: float = 1.0,
        paper: float = 0.0,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.rotation = check_number(owner, "rotation", rotation, at_least=0.0, at_most=180.0)
        self.scale = check_span(owner, "scale", scale, above=0.0)
        self.shear = check_number(owner, "shear", shear, at_least=0.0, at_most=1.0)
        self.translate = check_number(owner, "translate", translate, at_least=0.0, at_most=0.5)
        self.elastic = check_number(owner, "elastic", elastic, at_least=0.0, at_most=0.2)
        self.elastic_points = check_count(owner, "elastic_points", elastic_points, 2)
        self.width = check_number(owner, "width", width, at_least=0.0, at_most=1.0)
        self.erase = check_number(owner, "erase", erase, at_least=0.0, at_most=1.0)
        self.crop = check_number(owner, "crop", crop, at_least=0.5, at_most=1.0)
        self.paper = check_number(owner, "paper", paper)
        self.affine_probability = check_number(owner, "affine_probability", affine_probability, at_least=0, at_most=1)
        self.elastic_probability = check_number(
            owner, "elastic_probability", elastic_probability, at_least=0, at_most=1
        )
        self.width_probability = check_number(owner, "width_probability", width_probability, at_least=0, at_most=1)
        self.erase_probability = check_number(owner, "erase_probability", erase_probability, at_least=0, at_most=1)
        self.flip_probability = check_number(owner, "flip_probability", flip_probability, at_least=0, at_most=1)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, S, S)`` of any range and ink; the same shape and, for floating point, the same type."""
        if image.ndim != 4 or image.shape[-1] != image.shape[-2]:
            raise bad_argument(type(self).__name__, "image", tuple(image.shape), "a shape of (B, C, S, S)")
        # on a processor a large batch goes in blocks: to fetch fresh memory for it costs more than the arithmetic
        together = PIXELS_AT_ONCE // max(1, image[:1].numel()) if image.device.type == "cpu" else len(image)
        with torch.autocast(image.device.type, enabled=False):
            blocks = [self._augmented(block.float()) for block in image.split(max(1, together))]
        found = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
        return found.to(image.dtype) if image.is_floating_point() else found

    def views(self, image: Tensor) -> Tensor:
        """Two looks at each sample, ``(2, B, C, S, S)``, by one call."""
        return self(torch.cat([image, image])).unflatten(0, (2, len(image)))

    def _augmented(self, image: Tensor) -> Tensor:
        # paper is 0 while it is worked on: what is shifted in from outside is paper, and so is what is erased
        ink = image - self.paper if self.paper else image
        ink = self._erased(self._rewidened(self._resampled(ink)))
        return ink + self.paper if self.paper else ink

    def _resampled(self, ink: Tensor) -> Tensor:
        bends = self.elastic > 0 and self.elastic_probability > 0
        if not (bends or self._moves or self.flip_probability or self.crop < 1):
            return ink
        n, size = len(ink), ink.shape[-1]
        # a picture spans [-1, 1] here, as for grid_sample; of each pixel, where its ink comes from
        at = (torch.arange(size, device=ink.device) * 2 + 1) / size - 1
        matrix = self._matrices(n, ink.device)
        of_column = torch.addcmul(matrix[..., 2:], matrix[..., :1], at)
        grid = of_column[:, :, None, :] + (matrix[..., 1:2] * at)[..., None]
        if bends:
            points = self.elastic_points
            coarse = torch.randn(n, 2, points, points, device=ink.device)
            coarse *= 2 * self.elastic * self._happens(n, self.elastic_probability, ink.device).view(n, 1, 1, 1)
            grid += smooth_field(coarse, size)
        return F.grid_sample(ink, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False)

    def _matrices(self, n: int, device: torch.device) -> Tensor:
        """From a pixel of the new picture to one of the old: ``(n, 2, 3)``."""
        u = torch.rand(9, n, device=device)
        either_way = 2 * u - 1
        on = (u[0] < self.affine_probability).float() if self._moves else torch.zeros_like(u[0])
        angle = on * math.radians(self.rotation) * either_way[1]
        low, high = self.scale
        shrink = 1 / (1 + on * (low + (high - low) * u[2] - 1))
        shear = on * self.shear * either_way[3]
        mirror = torch.where(u[4] < self.flip_probability, -1.0, 1.0)
        side = (1 - (1 - self.crop) * u[5]).sqrt()
        offset = (1 - side) * either_way[6:8], 2 * self.translate * on * torch.rand(2, n, device=device).mul_(2).sub_(1)
        cosine, sine = shrink * angle.cos(), shrink * angle.sin()
        turn = torch.stack([cosine - shear * sine, sine + shear * cosine, -sine, cosine], 1).view(n, 2, 2)
        shift = (turn * (offset[0] + offset[1]).T[:, None, :]).sum(-1, keepdim=True)
        matrix = torch.cat([turn * side.view(n, 1, 1), shift], dim=-1)
        matrix[:, 0] *= mirror[:, None]
        return matrix

    def _rewidened(self, ink: Tensor) -> Tensor:
        if self.width == 0 or self.width_probability == 0:
            return ink
        n = len(ink)
        share = self.width * (2 * torch.rand(n, device=ink.device) - 1)
        share = (share * self._happens(n, self.width_probability, ink.device)).view(n, 1, 1, 1)
        # the smallest around is the largest of the negative: with its sign turned, a sample needs one of the two alone
        around = largest_around(ink * torch.where(share >= 0, 1.0, -1.0))
        return (ink * (1 - share.abs())).addcmul_(around, share)

    def _erased(self, ink: Tensor) -> Tensor:
        if self.erase == 0 or self.erase_probability == 0:
            return ink
        n, size = len(ink), ink.shape[-1]
        at = (torch.arange(size, device=ink.device) + 0.5) / size
        # centres lie anywhere in the picture, so the rectangle may reach beyond its edge
        centre, half = (
            torch.rand(n, 2, 1, device=ink.device),
            0.25 * self.erase * (1 + torch.rand(n, 2, device=ink.device)),
        )
        half *= self._happens(n, self.erase_probability, ink.device)[:, None]
        inside = ((at - centre).abs() < half[..., None]).float()
        left = (inside[:, None, 0, None, :] * -inside[:, None, 1, :, None]).add_(1)
        return ink * left

    @property
    def _moves(self) -> bool:
        return self.affine_probability > 0 and (self.rotation, *self.scale, self.shear, self.translate) != (
            0,
            1,
            1,
            0,
            0,
        )

    def _happens(self, n: int, probability: float, device: torch.device) -> Tensor:
        """1 with this probability, else 0: ``(n,)``."""
        return (torch.rand(n, device=device) < probability).float()


def smooth_field(coarse: Tensor, size: int) -> Tensor:
    """Numbers at ``(..., k, k)`` points, the corners among them, interpolated by cubics to ``(..., size, size)``.

    What `interpolate(mode="bicubic", align_corners=True)` gives, as two products of matrices, a tenth of its time.
    """
    k = coarse.shape[-1]
    unit = torch.eye(k, device=coarse.device, dtype=coarse.dtype).view(1, k, k, 1)
    basis = F.interpolate(unit, (size, 1), mode="bicubic", align_corners=True).view(k, size)
    return basis.T @ coarse @ basis


def largest_around(image: Tensor) -> Tensor:
    """The largest of the 3 x 3 pixels around each, ``(..., H, W)``.

    What `max_pool2d(image, 3, stride=1, padding=1)` gives, a row and a column at a time: a twentieth of its time on a
    processor.
    """
    wide = image.clone()
    torch.maximum(wide[..., 1:], image[..., :-1], out=wide[..., 1:])
    torch.maximum(wide[..., :-1], image[..., 1:], out=wide[..., :-1])
    high = wide.clone()
    torch.maximum(high[..., 1:, :], wide[..., :-1, :], out=high[..., 1:, :])
    torch.maximum(high[..., :-1, :], wide[..., 1:, :], out=high[..., :-1, :])
    return high


def check_span(owner: str, name: str, span: object, above: float) -> tuple[float, float]:
    """Two numbers above `above`, the smaller first, or an error that says so."""
    if isinstance(span, str) or not isinstance(span, Sequence) or len(span) != 2:
        raise bad_argument(owner, name, span, f"two numbers above {above:g}, the smaller first")
    low, high = (check_number(owner, name, value, above=above) for value in span)
    if low > high:
        raise bad_argument(owner, name, span, f"two numbers above {above:g}, the smaller first")
    return low, high
