r"""Clip thresholds that follow the gradients: AutoClip, ZClip and adaptive gradient clipping, on the device.

All are pure arithmetic on tensors, of a cost that does not depend on how many steps have been. A norm that is not
finite enters no state: one NaN in a list of norms makes its percentile NaN, and one in a moving average keeps it NaN,
so that nothing is ever clipped again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablelit.functional.gradients import same_kind, total_norm

BINS_PER_OCTAVE = 128
_LOWEST, _HIGHEST = -40, 40  # norms from 1e-12 to 1e12
_TOO_LARGE = 1e18  # its square overflows in float32, and an infinite variance calls nothing an outlier
BINS = (_HIGHEST - _LOWEST) * BINS_PER_OCTAVE


def new_histogram(device: torch.device | str = "cpu") -> Tensor:
    """Counts of norms in bins of equal width in the logarithm, shape (BINS,), int64.

    A bin is 0.54 % wide, so a percentile read from the counts is that close to the exact one.
    """
    return torch.zeros(BINS, dtype=torch.int64, device=device)


def add_to_histogram(counts: Tensor, norm: Tensor) -> None:
    """Counts a norm, in place; one that is not finite is left out, one out of range counts at the end.

    Args:
        counts: from :func:`new_histogram`.
        norm: shape ().
    """
    counts.index_add_(0, _bin(norm).view(1), torch.isfinite(norm).to(counts.dtype).view(1))


def histogram_percentile(counts: Tensor, percentile: float) -> Tensor:
    """The percentile of all norms that were counted, interpolated between neighbours as `numpy.percentile` does.

    Args:
        counts: from :func:`new_histogram`.
        percentile: in (0, 100].

    Returns:
        Shape (), float32; infinity where nothing was counted.
    """
    until = counts.cumsum(0)
    total = until[-1]
    rank = (percentile / 100.0) * (total - 1).clamp_min(0).to(torch.float32)
    below = rank.floor()
    # the two neighbours in the order of all norms, and where they lie in their bins
    neighbours = torch.stack([below, below + 1.0]).to(torch.int64).clamp(max=(total - 1).clamp_min(0))
    bins = torch.searchsorted(until, neighbours, right=True).clamp_max(BINS - 1)
    inside = (neighbours - until[bins] + counts[bins]).to(torch.float32) + 0.5
    octave = _LOWEST + (bins.to(torch.float32) + inside / counts[bins].clamp_min(1)) / BINS_PER_OCTAVE
    low, high = torch.exp2(octave).unbind()
    value = low + (rank - below) * (high - low)
    return torch.where(total > 0, value, math.inf)


def new_z_state(device: torch.device | str = "cpu") -> Tensor:
    """What :func:`zclip_step` remembers: norms seen, mean and variance of them; shape (3,), float32."""
    return torch.zeros(3, device=device)


def zclip_step(
    state: Tensor, norm: Tensor, z_threshold: float = 2.5, alpha: float = 0.97, warmup_steps: int = 25
) -> tuple[Tensor, Tensor]:
    r"""The threshold for a norm that is an outlier among those before it, and the state after it.

    .. math::
        z = \frac{\|g\| - \mu}{\sigma},\qquad c = \mu + \frac{z_0^2}{z}\sigma \text{ where } z > z_0,\qquad
        \mu \leftarrow \alpha\mu + (1-\alpha) n,\quad \sigma^2 \leftarrow \alpha\sigma^2 + (1-\alpha)(n-\mu)^2

    with n the norm after the clip. The larger the outlier, the nearer to the mean it is clipped. The first
    `warmup_steps` finite norms give the first mean and variance, and are not clipped.

    Args:
        state: from :func:`new_z_state`.
        norm: shape (); one that is not finite changes nothing and has no threshold.
        z_threshold: z_0.
        alpha: decay of the averages.
        warmup_steps: at least 2.

    Returns:
        The threshold, shape (), infinity where nothing is to be clipped; and the new state.

    Source: Kumar et al. 2025 (arXiv:2504.02507), equations 3 to 8.
    """
    seen, mean, variance = state.unbind()
    norm = norm.to(state.dtype)
    warm = seen < warmup_steps
    std = variance.sqrt()
    # norms that are all equal have no spread: a millionth of the mean is no outlier
    z = (norm - mean) / (std + 1e-6 * mean).clamp_min(torch.finfo(state.dtype).tiny)
    # a mean of 0 would clip every gradient to 0 from there on
    spike = ~warm & (mean > 0) & (z > z_threshold)
    target = mean + (z_threshold * z_threshold) * std / z
    clipped = torch.where(spike, target, norm)
    delta = clipped - mean
    # while warming up every norm weighs the same, afterwards the last ones most
    weight = torch.where(warm, 1.0 / (seen + 1.0), 1.0 - alpha)
    new_mean = mean + weight * delta
    spread = torch.where(warm, delta * (clipped - new_mean), (clipped - new_mean).square())
    new_variance = variance + weight * (spread - variance)
    enters = torch.where(spike, torch.isfinite(norm), norm < _TOO_LARGE)
    new = torch.where(enters, torch.stack([seen + 1.0, new_mean, new_variance]), state)
    return torch.where(spike & enters, target, math.inf), new


def clip_to_(gradients: Sequence[Tensor], norm: Tensor, threshold: Tensor) -> Tensor:
    """Scales gradients of total norm `norm` down to `threshold`, in place.

    Args:
        gradients: on any devices; of sharded ones this rank's part is scaled.
        norm: their norm, shape (); where it is not finite they are left as they are.
        threshold: shape (), may be infinite.

    Returns:
        The coefficient, shape (): 1 where nothing was clipped.
    """
    smaller = torch.isfinite(norm) & (norm > threshold)
    coefficient = torch.where(smaller, threshold / norm, 1.0)
    held = list(gradients)
    if held and same_kind(held):
        torch._foreach_mul_(held, coefficient.to(held[0].device, held[0].dtype))
        return coefficient
    for (device, dtype), places in _places(held):
        tensors = [held[place] for place in places]
        local = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
        torch._foreach_mul_(local, coefficient.to(device, dtype))
    return coefficient


def agc_(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], clipping: float | Tensor = 0.01, eps: float = 1e-3
) -> tuple[Tensor, Tensor]:
    r"""Adaptive gradient clipping: no unit's gradient is larger than a share of its weights, in place.

    .. math:: g_i \leftarrow \lambda\frac{\max(\|w_i\|, \epsilon)}{\|g_i\|} g_i \quad\text{where}\quad
        \frac{\|g_i\|}{\max(\|w_i\|, \epsilon)} > \lambda

    A unit i is a row of a matrix (the weights of one output), an output channel of a convolution, and the whole of a
    vector or scalar, as in the authors' code; of an embedding it is one entry. A unit whose gradient is not finite is
    left as it is.

    Args:
        weights: of any shapes.
        gradients: of the same.
        clipping: lambda; of gradients that carry a factor, lambda times the factor.
        eps: what the norm of a unit's weights counts at least, so that zeros can learn.

    Returns:
        The norm of all gradients before and after, shape () each.

    Source: Brock et al. 2021 (arXiv:2102.06171), equation 3; lambda 0.01 and eps 1e-3 are theirs.
    """
    before, after = [], []
    with torch.no_grad():
        for _, places in _places(gradients):
            for by_row in (False, True):
                chosen = [place for place in places if _has_rows(gradients[place]) == by_row]
                if not chosen:
                    continue
                held = [gradients[place] for place in chosen]
                norms, factors = _limit(held, [weights[place] for place in chosen], clipping, eps, by_row)
                before.append(norms)
                after.append(norms * factors)
    return total_norm(before), total_norm(after)


def _limit(
    gradients: list[Tensor], weights: list[Tensor], clipping: float | Tensor, eps: float, by_row: bool
) -> tuple[Tensor, Tensor]:
    norms, largest = _unit_norms(gradients, by_row), clipping * _unit_norms(weights, by_row).clamp_min(eps)
    factors = torch.where(torch.isfinite(norms) & (norms > largest), largest / norms, 1.0)
    each = factors.to(gradients[0].dtype)
    if by_row:
        rows = torch.split(each[:, None], [g.shape[0] for g in gradients])
        shaped = [r if g.dim() == 2 else r.view(-1, *[1] * (g.dim() - 1)) for r, g in zip(rows, gradients, strict=True)]
        torch._foreach_mul_(gradients, shaped)
    else:
        torch._foreach_mul_(gradients, list(each.unbind()))
    return norms, factors


def _unit_norms(tensors: list[Tensor], by_row: bool) -> Tensor:
    """The norm of each unit of each tensor, in order; shape (units,), float32 (float64 where a tensor is)."""
    wide = torch.float32 if tensors[0].dtype in (torch.float16, torch.bfloat16) else None
    if not by_row:
        return torch.stack(torch._foreach_norm(tensors, dtype=wide))
    rows = (t if t.dim() == 2 else t.flatten(1) for t in tensors)
    return torch.cat([torch.linalg.vector_norm(row, dim=1, dtype=wide) for row in rows])


def _has_rows(tensor: Tensor) -> bool:
    """Whether a parameter has several units: what is a vector but for dimensions of 1 is one."""
    return tensor.dim() > 1 and sum(size > 1 for size in tensor.shape) > 1


def _bin(norm: Tensor) -> Tensor:
    octave = torch.log2(torch.where(torch.isfinite(norm), norm, 1.0).to(torch.float32))
    # log2(0) is minus infinity, and goes into the first bin
    place = ((octave.clamp(_LOWEST, _HIGHEST) - _LOWEST) * BINS_PER_OCTAVE).floor()
    return place.to(torch.int64).clamp(0, BINS - 1)


def _places(tensors: Sequence[Tensor]) -> list[tuple[tuple[torch.device, torch.dtype], list[int]]]:
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, tensor in enumerate(tensors):
        kinds.setdefault((tensor.device, tensor.dtype), []).append(place)
    return list(kinds.items())
