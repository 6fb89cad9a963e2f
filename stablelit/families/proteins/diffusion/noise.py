r"""Noise schedules: how much noise a sequence has at time t in [0, 1], as a class a scientific choice.

Noise adds up to :math:`\sigma(t) = \int_0^t g`, at the rate :math:`\sigma'(t) = g(t) \ge 0`. A residue is left alone
with probability :math:`\alpha = e^{-\sigma}`, and masked (absorbing graph) or drawn anew (uniform graph) with
:math:`1 - e^{-\sigma}`.

=============  =====================================================================================================
`loglinear`    :math:`1 - e^{-\sigma} = (1 - \varepsilon) t`: masks grow linearly. Lou et al. 2024 for absorbing graphs
`geometric`    :math:`\sigma = \sigma_{min}^{1-t} \sigma_{max}^{t}`. Lou et al. 2024 for uniform graphs
`cosine`       :math:`e^{-\sigma} = \varepsilon + (1 - \varepsilon) \cos(\pi t / 2)`. Sahoo et al. 2024 (MDLM)
`half_cosine`  :math:`\sigma = \sigma_{min} + (\sigma_{max} - \sigma_{min}) \sin^2(\pi t / 2)`: the post-mortem's. It
               stops at 55 % masks with its settings, so that nothing can be generated from all masks
=============  =====================================================================================================

Sources: Lou et al. 2024 (arXiv:2310.16834); Sahoo et al. 2024 (arXiv:2406.07524).
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional.schedules import check_number

MOST_UNMASKED = 1e-2
FEW_UNMASKED = 1e-3


def log_expm1(sigma: Tensor) -> Tensor:
    r""":math:`\log(e^\sigma - 1) = \sigma + \log(1 - e^{-\sigma})`, which neither overflows nor cancels."""
    return sigma + torch.log(-torch.expm1(-sigma))


class Noise(ABC):
    """A schedule of noise; every method takes times of any shape and returns the same shape."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        r"""Noise up to time t, :math:`\sigma(t)`."""

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        r"""Noise per unit of time, :math:`\sigma'(t)`."""

    @abstractmethod
    def t_of(self, sigma: Tensor) -> Tensor:
        r"""The time at which the noise is `sigma`, clipped to [0, 1]."""

    @abstractmethod
    def _end(self) -> float:
        """sigma(1) in double precision."""

    def mask_probability(self, t: Tensor) -> Tensor:
        r"""Share of residues that noise has touched, :math:`1 - e^{-\sigma(t)}`."""
        return -torch.expm1(-self.sigma(t))

    def t_of_mask_probability(self, probability: Tensor) -> Tensor:
        """The time at which `probability` of the residues have been touched, clipped to [0, 1]."""
        return self.t_of(-torch.log1p(-probability))

    @property
    def sigma_at_end(self) -> float:
        r""":math:`\sigma(1)`."""
        return self._end()

    @property
    def unmasked_at_end(self) -> float:
        r"""Share of residues that the whole of the noise leaves alone, :math:`e^{-\sigma(1)}`."""
        return math.exp(-self._end())


@dataclass(frozen=True)
class LogLinearNoise(Noise):
    r""":math:`\sigma = -\log(1 - (1 - \varepsilon) t)`, so that the mask rate is :math:`(1 - \varepsilon) t`.

    Args:
        eps: share that is never masked, in (0, 1).
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_eps(type(self).__name__, self.eps)

    def sigma(self, t: Tensor) -> Tensor:
        """See `Noise.sigma`."""
        return minus_log(self._alpha(t), (1 - self.eps) * t)

    def rate(self, t: Tensor) -> Tensor:
        """See `Noise.rate`."""
        return (1 - self.eps) / self._alpha(t)

    def t_of(self, sigma: Tensor) -> Tensor:
        """See `Noise.t_of`."""
        return (-torch.expm1(-sigma) / (1 - self.eps)).clamp(0, 1)

    def _alpha(self, t: Tensor) -> Tensor:
        # 1 - (1 - eps) t loses half of eps's digits near t = 1
        return (1 - t) + self.eps * t

    def _end(self) -> float:
        return -math.log(self.eps)


@dataclass(frozen=True)
class GeometricNoise(Noise):
    r""":math:`\sigma = \sigma_{min}^{1-t} \sigma_{max}^{t}`.

    At t = 0 a share of about `sigma_min` is already touched, which a bound over t in [0, 1] does not count.

    Args:
        sigma_min: noise at t = 0, above 0.
        sigma_max: noise at t = 1, above `sigma_min`.
    """

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        _check_range(type(self).__name__, self.sigma_min, self.sigma_max)

    def sigma(self, t: Tensor) -> Tensor:
        """See `Noise.sigma`."""
        return torch.exp(math.log(self.sigma_min) * (1 - t) + math.log(self.sigma_max) * t)

    def rate(self, t: Tensor) -> Tensor:
        """See `Noise.rate`."""
        return self.sigma(t) * self._log_ratio

    def t_of(self, sigma: Tensor) -> Tensor:
        """See `Noise.t_of`."""
        return ((torch.log(sigma) - math.log(self.sigma_min)) / self._log_ratio).clamp(0, 1)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max) - math.log(self.sigma_min)

    def _end(self) -> float:
        return self.sigma_max


@dataclass(frozen=True)
class CosineNoise(Noise):
    r""":math:`\alpha = \varepsilon + (1 - \varepsilon) \cos(\pi t / 2)`, :math:`\sigma = -\log \alpha`.

    Args:
        eps: share that is never masked, in (0, 1).
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_eps(type(self).__name__, self.eps)

    def sigma(self, t: Tensor) -> Tensor:
        """See `Noise.sigma`."""
        return minus_log(self._alpha(t), 2 * (1 - self.eps) * torch.sin(math.pi / 4 * t) ** 2)

    def rate(self, t: Tensor) -> Tensor:
        """See `Noise.rate`."""
        return (1 - self.eps) * (math.pi / 2) * torch.sin(math.pi / 2 * t) / self._alpha(t)

    def t_of(self, sigma: Tensor) -> Tensor:
        """See `Noise.t_of`."""
        # the sine of half the angle keeps its digits where the cosine is nearly 1
        half = (-torch.expm1(-sigma) / (2 * (1 - self.eps))).clamp(0, 0.5).sqrt()
        return (4 / math.pi * torch.asin(half)).clamp(0, 1)

    def _alpha(self, t: Tensor) -> Tensor:
        return self.eps + (1 - self.eps) * torch.sin(math.pi / 2 * (1 - t))

    def _end(self) -> float:
        return -math.log(self.eps)


@dataclass(frozen=True)
class HalfCosineNoise(Noise):
    r""":math:`\sigma = \sigma_{min} + (\sigma_{max} - \sigma_{min}) (1 - \cos \pi t) / 2`, itself a half-cosine.

    The post-mortem's "cosine". Its noise ends at `sigma_max`: with 0.8, 45 % of the residues are never masked.

    Args:
        sigma_min: noise at t = 0, above 0.
        sigma_max: noise at t = 1, above `sigma_min`.
    """

    sigma_min: float = 1e-4
    sigma_max: float = 0.8

    def __post_init__(self) -> None:
        _check_range(type(self).__name__, self.sigma_min, self.sigma_max)

    def sigma(self, t: Tensor) -> Tensor:
        """See `Noise.sigma`."""
        return self.sigma_min + (self.sigma_max - self.sigma_min) * torch.sin(math.pi / 2 * t) ** 2

    def rate(self, t: Tensor) -> Tensor:
        """See `Noise.rate`."""
        # sin(pi t) = 2 sin(pi t / 2) cos(pi t / 2), of which the second is exactly 0 at t = 1 only in this form
        half = math.pi / 2
        return math.pi * (self.sigma_max - self.sigma_min) * torch.sin(half * t) * torch.sin(half * (1 - t))

    def t_of(self, sigma: Tensor) -> Tensor:
        """See `Noise.t_of`."""
        share = ((sigma - self.sigma_min) / (self.sigma_max - self.sigma_min)).clamp(0, 1)
        return 2 / math.pi * torch.asin(share.sqrt())

    def _end(self) -> float:
        return self.sigma_max


NOISES: dict[str, type[Noise]] = {
    "loglinear": LogLinearNoise,
    "geometric": GeometricNoise,
    "cosine": CosineNoise,
    "half_cosine": HalfCosineNoise,
}


def build_noise(noise: str | Mapping[str, Any] | Noise, owner: str = "build_noise") -> Noise:
    """The schedule of that name, with those settings.

    Args:
        noise: a name in `NOISES`, a mapping of ``name`` and settings, or a schedule, which is returned.
        owner: who asks, for the message.

    Raises:
        ConfigurationError: an unknown name or setting (near ones given), a setting outside its range.

    >>> build_noise({"name": "loglinear", "eps": 1e-4})
    LogLinearNoise(eps=0.0001)
    """
    if isinstance(noise, Noise):
        return noise
    settings = {"name": noise} if not isinstance(noise, Mapping) else dict(noise)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in NOISES:
        raise bad_argument(owner, "noise", name, ", ".join(NOISES), did_you_mean(str(name), NOISES))
    known = list(inspect.signature(NOISES[name]).parameters)
    for key in settings:
        if key not in known:
            raise ConfigurationError(
                f"{owner}: the noise {name!r} has no setting {key!r}. {did_you_mean(str(key), known)} "
                f"Allowed: {', '.join(known)}."
            )
    return NOISES[name](**settings)


def check_reaches_prior(noise: Noise, purpose: str, owner: str = "check_reaches_prior") -> str | None:
    """Whether the noise ends where generation starts, and where a likelihood bound has to end.

    Args:
        noise: whose `unmasked_at_end` is looked at.
        purpose: what it is wanted for, as in "generation" or "a bound of the likelihood".
        owner: who asks, for the message.

    Returns:
        None where at most 0.1 % of the residues are left alone at t = 1; a warning to print where it is more.

    Raises:
        ConfigurationError: more than 1 % are left alone.
    """
    left = noise.unmasked_at_end
    if left <= FEW_UNMASKED * (1 + 1e-9):
        return None
    text = (
        f"{owner}: noise={noise!r} leaves {100 * left:.3g} % of the residues unmasked at t = 1 (e^-sigma(1) with "
        f"sigma(1) = {noise.sigma_at_end:.4g}), and {purpose} starts where none is left."
    )
    needed = -math.log(MOST_UNMASKED)
    if left > MOST_UNMASKED * (1 + 1e-9):
        raise ConfigurationError(
            f"{text} Allowed: at most {100 * MOST_UNMASKED:g} %, that is sigma(1) of at least {needed:.3f}. "
            "Train with noise=loglinear, or raise sigma_max."
        )
    return f"{text} More than {100 * FEW_UNMASKED:g} % shows in samples; sigma(1) of at least 6.91 is below it."


def minus_log(alpha: Tensor, one_minus_alpha: Tensor) -> Tensor:
    """Minus log(alpha) from whichever of the two is small, so that neither end loses digits."""
    return torch.where(alpha < 0.5, -torch.log(alpha), -torch.log1p(-one_minus_alpha))


def _check_eps(owner: str, eps: object) -> None:
    if check_number(owner, "eps", eps, above=0.0) >= 1:
        raise bad_argument(owner, "eps", eps, "a number above 0 and below 1")


def _check_range(owner: str, sigma_min: object, sigma_max: object) -> None:
    low = check_number(owner, "sigma_min", sigma_min, above=0.0)
    check_number(owner, "sigma_max", sigma_max, above=low)
