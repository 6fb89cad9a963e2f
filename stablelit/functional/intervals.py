"""A mean and how far off it may be: 95 % of a normal distribution, as few-shot accuracies are reported."""

from __future__ import annotations

import torch
from torch import Tensor

NORMAL_95 = 1.96


def mean_and_interval(values: Tensor) -> tuple[Tensor, Tensor]:
    r"""The mean of E independent values and the half-width of its 95 % interval, ``1.96 s / sqrt(E)``.

    :math:`s` is the sample standard deviation (with E - 1). With one value there is no interval: it is NaN.

    Args:
        values: ``(E,)``, such as accuracies of episodes, or the differences of two methods on the same episodes.

    Returns:
        Both 0-dim, float64, on the values' device.

    Example:
        >>> mean, half = mean_and_interval(torch.tensor([0.0, 1.0, 0.0, 1.0]))
        >>> f"{mean:.3f} +- {half:.3f}"
        '0.500 +- 0.566'
    """
    values = values.detach().double()
    # from the first: where all are alike nothing is left, and not the rounding of their mean
    shifted = values - values[:1]
    deviations = (shifted - shifted.mean()).square().sum()
    return values.mean(), _half_width(deviations, values.new_tensor(float(values.numel())))


def interval_of_sums(total: Tensor, squares: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`mean_and_interval` of values of which only sums are kept, as ranks add them up.

    Args:
        total: sum of the values, 0-dim, float64.
        squares: sum of their squares.
        count: how many there are; of 0 the mean is NaN too.
    """
    count = count.double()
    mean = total.double() / count
    # rounding may leave a little less than nothing where all values are alike
    return mean, _half_width((squares.double() - count * mean.square()).clamp(min=0.0), count)


def _half_width(deviations: Tensor, count: Tensor) -> Tensor:
    return NORMAL_95 * (deviations / (count - 1) / count).sqrt() + torch.where(count > 1, 0.0, torch.nan)
