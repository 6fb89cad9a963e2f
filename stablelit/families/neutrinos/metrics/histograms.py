"""Fine histograms as the state of a metric: of one size however many events there are, and summed over ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.neutrinos.angles import angle_between, unit_vector


def angular_errors(owner: str, f: Tensor, t: Tensor) -> Tensor:
    """The angle between predictions and truths in float64, ``(B,)`` radians; NaN where a prediction is not finite.

    Args:
        owner: who asks, for the message.
        f: ``(B, 3)`` predictions of any length.
        t: ``(B, 3)`` unit vectors.

    Raises:
        DataError: other shapes.
    """
    check_shapes(owner, f, t)
    return angle_between(unit_vector(f.detach().double()), t.detach().double())


def check_shapes(owner: str, f: Tensor, t: Tensor) -> None:
    """Raises where predictions and truths are not ``(B, 3)`` both.

    Raises:
        DataError: other shapes.
    """
    if f.ndim != 2 or f.shape[-1] != 3 or f.shape != t.shape:
        raise DataError(
            f"{owner}: predictions {tuple(f.shape)} and truths {tuple(t.shape)}. Allowed: (events, 3) for both."
        )


def add_to_histogram(counts: Tensor, values: Tensor, low: float, high: float) -> None:
    """Counts each value in its bin of ``counts``, in place; what is beyond an end, or NaN, goes to the last bin there.

    Args:
        counts: ``(N,)`` int64, bins of one width from `low` to `high`.
        values: ``(B,)``.
        low: where the first bin begins.
        high: where the last one ends.
    """
    place = (values - low) * (len(counts) / (high - low))
    # NaN has no place: the last bin, and the metric says elsewhere that there were some
    place = place.nan_to_num(nan=math.inf).clamp(0, len(counts) - 1).long()
    counts.index_add_(0, place, torch.ones_like(place))


def quantiles(counts: Tensor, shares: tuple[float, ...], low: float, high: float) -> Tensor:
    """The least values that these shares of the counted ones do not exceed, to within one bin's width.

    Inside a bin values are taken to be spread evenly.

    Args:
        counts: ``(..., N)`` int64.
        shares: S numbers in (0, 1).
        low: where the first bin begins.
        high: where the last one ends.

    Returns:
        ``(..., S)`` float64; NaN where nothing was counted.
    """
    below = counts.cumsum(dim=-1).double()
    total = below[..., -1:]
    wanted = total * torch.tensor(shares, dtype=torch.float64, device=counts.device)
    place = torch.searchsorted(below, wanted.contiguous()).clamp_max(counts.shape[-1] - 1)
    inside = counts.double().gather(-1, place)
    before = below.gather(-1, place) - inside
    position = (place + (wanted - before) / inside) / counts.shape[-1]
    return torch.where(total > 0, low + position * (high - low), math.nan)
