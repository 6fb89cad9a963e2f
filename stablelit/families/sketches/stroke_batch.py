"""Strokes of several drawings as padded tensors, which a device can augment and draw at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.families.sketches.strokes import Strokes


class StrokeBatch(NamedTuple):
    """The strokes of B drawings, padded to P points.

    Args:
        points: ``(B, P, 2)`` float32, x to the right and y down; where there is no point, 0.
        begins: ``(B, P)`` bool, True where a stroke begins.
        mask: ``(B, P)`` bool, True where there is a point.
    """

    points: Tensor
    begins: Tensor
    mask: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StrokeBatch:
        """The same on another device."""
        return StrokeBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


def padded(strokes: Strokes, which: NDArray[np.int64]) -> StrokeBatch:
    """The drawings of these numbers, in this order, padded to the longest of them; P is at least 1.

    Args:
        strokes: of all drawings.
        which: ``(B,)`` numbers of drawings; one may come twice.
    """
    chosen = strokes.take(np.asarray(which, dtype=np.int64).reshape(-1))
    lengths = np.diff(chosen.offsets)
    mask = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    points, begins = np.zeros((*mask.shape, 2), dtype=np.float32), np.zeros(mask.shape, dtype=bool)
    # both sides run through the drawings one after another, so a mask is all the arithmetic there is
    points[mask], begins[mask] = chosen.points, chosen.begins
    return StrokeBatch(torch.from_numpy(points), torch.from_numpy(begins), torch.from_numpy(mask))
