"""A bias of attention by the space-time interval between two sensors' first pulses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.errors import bad_argument
from stablelit.families.neutrinos.networks.padding import is_row
from stablelit.functional.schedules import check_count, check_number

MAX_FUNCTIONS = 32
ABSENT = -1e30
"""Added to a score, leaves nothing of it; finite, since minus infinity times a gradient of zero is none."""


def signed_interval(points: Tensor) -> Tensor:
    """``sign(s) sqrt|s|`` with ``s = |dx|^2 - (c dt)^2`` of all pairs, m: below zero where light can go between them.

    Computed as ``(|dx| - |c dt|)(|dx| + |c dt|)``, which cancels nothing large near the light cone.

    Args:
        points: ``(B, L, 4)``, x, y, z and c t, m, float32.

    Returns:
        ``(B, L, L)``, m.
    """
    place, time = points[..., :3], points[..., 3]
    # the exact mode: by a product of matrices, a sensor at the detector's edge is decimetres away from itself
    distance = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
    light = (time[:, :, None] - time[:, None, :]).abs()
    difference = distance - light
    return difference.sign() * (difference.abs() * (distance + light)).sqrt()


class SpaceTimeBias(nn.Module):
    """``b_ij = sum_k w_k T_k(u_ij)``, ``u = d / (|d| + scale)``: smooth functions of the signed interval d.

    T_k, k = 1 to K, are Chebyshev's polynomials, so a layer's bias is one small product of matrices, and the
    functions are computed once for all layers, without gradient. u needs no clipping: it is within (-1, 1), finest
    about the light cone, d = 0. Weights, one a layer, head and function, begin at zero, where there is no bias.

    The first place is the summary token, which is nowhere in space-time: the others look at it with one learned bias,
    it looks at itself with another, and at them with none (a constant added to all it looks at changes nothing).

    Source: the second place's solution of "IceCube - Neutrinos in Deep Ice" (arXiv:2310.15674) has a bias by d; its
    functions are sinusoids of clipped d.

    Args:
        layers: with a bias of their own.
        heads: of each.
        functions: K.
        scale: of d where u is a half, m.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, layers: int, heads: int, functions: int = 8, scale: float = 100.0) -> None:
        super().__init__()
        owner = type(self).__name__
        check_count(owner, "layers", layers, 1)
        check_count(owner, "heads", heads, 1)
        if check_count(owner, "functions", functions, 1) > MAX_FUNCTIONS:
            raise bad_argument(owner, "functions", functions, f"an int from 1 to {MAX_FUNCTIONS}")
        self.scale = check_number(owner, "scale", scale, above=0.0)
        self.functions = functions
        self.weight = nn.Parameter(torch.zeros(layers, heads, functions + 2))

    @torch.no_grad()
    def planes(self, points: Tensor, counts: Tensor) -> Tensor:
        """The functions of all pairs of 1 + L places, the summary token first, ``(B, K + 3, 1 + L, 1 + L)``.

        The last plane is 0 for a key that is there and `ABSENT` for one that is not, so that the bias is a mask too.

        Args:
            points: ``(B, L, 4)``, x, y, z and c t, m.
            counts: ``(B,)``, how many of the L are there.
        """
        d = signed_interval(points.float())
        u = d / (d.abs() + self.scale)
        n, length, k = len(points), points.shape[1] + 1, self.functions
        planes = u.new_zeros(n, k + 3, length, length)
        before, now = torch.ones_like(u), u
        for plane in range(k):
            planes[:, plane, 1:, 1:] = now
            before, now = now, 2 * u * now - before
        planes[:, k, 1:, 0] = 1.0
        planes[:, k + 1, 0, 0] = 1.0
        planes[:, k + 2].masked_fill_(~is_row(counts + 1, length)[:, None, :], ABSENT)
        return planes

    def forward(self, layer: int, planes: Tensor) -> Tensor:
        """What a layer adds to its scores, ``(B, heads, 1 + L, 1 + L)``, from the planes."""
        weight = functional.pad(self.weight[layer], (0, 1), value=1.0)
        # not matmul, which would put heads last, and copy the planes to do so
        return torch.bmm(weight.expand(len(planes), -1, -1), planes.flatten(2)).unflatten(2, planes.shape[2:])
