"""The KL of a Gaussian posterior, and the arithmetic that holds a KL term where it was asked to be.

Why a controller: at the optimum of ``distortion + beta * KL`` the KL is the rate R at which the rate-distortion curve
has slope ``-dD/dR = beta``; a smaller weight buys a *larger* KL. A cap on the weight therefore bounds the term's
share of the gradient and never the KL itself (Alemi et al. 2018, "Fixing a Broken ELBO", arXiv:1711.00464).

The controllers are pure functions of numbers: floats, where the host has the KL anyway, or 0-dim tensors, so that a
controller runs on the device without the host waiting. One formula serves both; floats cost a tenth of the time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)


def gaussian_kl_per_dim(mean: Tensor, logvar: Tensor) -> Tensor:
    r"""KL of a diagonal Gaussian to the standard normal, for each dimension.

    .. math:: KL_j = \tfrac12 (\mu_j^2 + e^{\ell_j} - 1 - \ell_j),\quad \ell = \mathrm{clip}(\log\sigma^2, -30, 20)

    Computed in float32 under autocast: ``e^l - 1 - l`` cancels near 0.

    Args:
        mean: posterior means, shape (..., d).
        logvar: log variances, shape (..., d).

    Returns:
        Nats, shape (..., d), never negative.

    Source: Kingma and Welling 2014 (arXiv:1312.6114), appendix B.
    """
    mean, logvar = mean.float(), logvar.float().clamp(*LOGVAR_RANGE)
    return 0.5 * (mean.square() + (torch.expm1(logvar) - logvar)).clamp_min(0.0)


Number = float | Tensor


class ControllerState(NamedTuple):
    """What a controller remembers: three numbers of one kind.

    `kl` is the smoothed KL in nats (NaN before the first value), `integral` the controller's accumulated part in the
    units of its mode, `weight` the weight it last gave.
    """

    kl: Number
    integral: Number
    weight: Number

    def on(self, device: torch.device | str) -> ControllerState:
        """The same numbers as the kind that suits a device."""
        if torch.device(device).type == "cpu":
            return ControllerState(*(float(value) for value in self))
        return ControllerState(*(torch.as_tensor(value, dtype=torch.float32, device=device) for value in self))


def initial_state(integral: float, weight: float, device: torch.device | str = "cpu") -> ControllerState:
    """A controller that has seen nothing: floats on a CPU, 0-dim tensors elsewhere."""
    return ControllerState(math.nan, integral, weight).on(device)


def smooth(previous: Number, value: Number, decay: float) -> Number:
    """Exponential moving average ``d m + (1 - d) x`` that starts at the first value; NaN `previous` means none yet."""
    # a NaN is the one number that does not equal itself
    return _choose(previous == previous, decay * previous + (1.0 - decay) * value, value)


def log_pi_step(
    state: ControllerState,
    kl: Number,
    target: float,
    *,
    proportional: float = 0.5,
    integral: float = 0.03,
    decay: float = 0.9,
    min_weight: float = 1e-4,
    max_weight: float = 50.0,
) -> ControllerState:
    r"""One step of a proportional-integral controller that moves the logarithm of the weight.

    .. math::
        e_t &= \mathrm{clip}\!\left(\frac{\overline{KL}_t - C}{C}, -1, 1\right) \\
        I_t &= \mathrm{clip}(I_{t-1} + k_i e_t, \ln\beta_{min}, \ln\beta_{max}) \\
        \beta_t &= \exp\,\mathrm{clip}(I_t + k_p e_t, \ln\beta_{min}, \ln\beta_{max})

    The error is relative, and the weight moves by factors, so that the same gains serve a target of 3 and of 20 nats
    and a likelihood of any scale. The integral holds still while the weight is at a limit and the error pushes
    further out (anti-windup). A KL that is not finite leaves the state as it was.

    Shapes: numbers, or 0-dim tensors. Units: KL and target in nats per sample.

    Source: after the linear PI controller of Shao et al. 2020 (ControlVAE, arXiv:2004.05988), in the log domain.
    """
    low, high = math.log(min_weight), math.log(max_weight)
    smoothed = smooth(state.kl, kl, decay)
    error = _clip((smoothed - target) / target, -1.0, 1.0)
    unlimited = state.integral + proportional * error
    outward = ((unlimited >= high) & (error > 0)) | ((unlimited <= low) & (error < 0))
    moved = _clip(_choose(outward, state.integral, state.integral + integral * error), low, high)
    weight = _exp(_clip(moved + proportional * error, low, high))
    return unless_non_finite(state, ControllerState(smoothed, moved, weight), kl)


def multiplier_step(
    state: ControllerState,
    kl: Number,
    target: float,
    base_weight: float = 0.0,
    *,
    two_sided: bool = False,
    gamma: float = 1.0,
    rate: float = 0.03,
    decay: float = 0.9,
    max_weight: float = 50.0,
) -> ControllerState:
    r"""A bound on the KL by the method of multipliers: one-sided (a hinge) or two-sided (a capacity).

    The loss is ``distortion + base_weight * KL + multiplier * (KL - C)``, and the multiplier moves by dual ascent:

    .. math::
        e_t &= \mathrm{clip}\!\left(\frac{\overline{KL}_t - C}{C}, -1, 1\right),
            \quad s_t = \max(|\lambda_{t-1}|, \beta_0, 0.05) \\
        \lambda_t &= \mathrm{clip}(\lambda_{t-1} + \eta\, s_t e_t,\ \lambda_{min},\ \beta_{max}) \\
        \beta_t &= \beta_0 + \lambda_t + \gamma\, s_t e_t

    One-sided: :math:`\lambda_{min} = 0` and the last term counts only where :math:`e_t > 0`; the multiplier returns
    to 0 by itself where the base weight alone keeps the KL below C. Two-sided: :math:`\lambda_{min} = -\beta_{max}`,
    so that the weight may become negative and reward information.

    The penalties of the literature, ``gamma max(0, KL - C)`` and ``gamma |KL - C|``, have a fixed factor: where the
    weight that holds C is larger than gamma they fall short of it, and where it is smaller they jump about it. The
    multiplier has neither fault. Steps are in proportion to the weight in force, so no likelihood's scale is built in.

    Shapes: numbers, or 0-dim tensors. Units: KL and target in nats per sample.

    Source: the augmented Lagrangian (Nocedal and Wright, Numerical Optimization, ch. 17.3) of the constraints behind
    Burgess et al. 2018 (arXiv:1804.03599); GECO (Rezende and Viola 2018, arXiv:1810.00597) bounds the distortion so.
    """
    smoothed = smooth(state.kl, kl, decay)
    error = _clip((smoothed - target) / target, -1.0, 1.0)
    scale = _clip(_abs(state.integral), max(base_weight, 0.05), math.inf)
    multiplier = _clip(state.integral + rate * scale * error, -max_weight if two_sided else 0.0, max_weight)
    at_once = error if two_sided else _clip(error, 0.0, 1.0)
    weight = _clip(base_weight + multiplier + gamma * scale * at_once, -max_weight, max_weight)
    return unless_non_finite(state, ControllerState(smoothed, multiplier, weight), kl)


def is_finite(value: Number) -> Any:
    """Whether a number is finite: a bool of a float, a 0-dim bool tensor of a tensor."""
    return torch.isfinite(value) if isinstance(value, Tensor) else math.isfinite(value)


def unless_non_finite(old: ControllerState, new: ControllerState, kl: Number) -> ControllerState:
    """The new state; the old one where the KL is not finite."""
    finite = is_finite(kl)
    if isinstance(finite, bool):
        return new if finite else old
    return ControllerState(*(_choose(finite, n, o) for n, o in zip(new, old, strict=True)))


# `type(x) is float` first: asking whether something is a Tensor takes longer than the arithmetic on a float


def _choose(condition: Any, yes: Number, no: Number) -> Number:
    if type(condition) is bool:
        return yes if condition else no
    return torch.where(condition, yes, no)


def _clip(value: Number, low: float, high: float) -> Number:
    if type(value) is float:
        return low if value < low else high if value > high else value
    return value.clamp(low, high) if isinstance(value, Tensor) else min(max(value, low), high)


def _abs(value: Number) -> Number:
    return value.abs() if isinstance(value, Tensor) else abs(value)


def _exp(value: Number) -> Number:
    return math.exp(value) if type(value) is float else torch.as_tensor(value).exp()
