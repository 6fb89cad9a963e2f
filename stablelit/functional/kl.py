"""The KL of a Gaussian posterior, and the controllers that hold a KL term where it was asked to be.

Why a controller: at the optimum of ``distortion + beta * KL`` the KL is the rate R at which the rate-distortion curve
has slope ``-dD/dR = beta``; a smaller weight buys a *larger* KL. A cap on the weight therefore bounds the term's
share of the gradient and never the KL itself (Alemi et al. 2018, "Fixing a Broken ELBO", arXiv:1711.00464).

Everything is a pure function of 0-dim tensors, so that a controller runs on the device without the host waiting.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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


class ControllerState(NamedTuple):
    """What a controller remembers: three 0-dim tensors.

    `kl` is the smoothed KL in nats (NaN before the first value), `integral` the controller's accumulated part in the
    units of its mode, `weight` the weight it last gave.
    """

    kl: Tensor
    integral: Tensor
    weight: Tensor


def initial_state(integral: float, weight: float, device: torch.device | str = "cpu") -> ControllerState:
    """A controller that has seen nothing."""
    return ControllerState(*(torch.tensor(v, dtype=torch.float32, device=device) for v in (math.nan, integral, weight)))


def smooth(previous: Tensor, value: Tensor, decay: float) -> Tensor:
    """Exponential moving average ``d m + (1 - d) x`` that starts at the first value; NaN `previous` means none yet."""
    return torch.where(torch.isnan(previous), value, decay * previous + (1.0 - decay) * value)


def log_pi_step(
    state: ControllerState,
    kl: Tensor,
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

    Shapes: every tensor is 0-dim. Units: KL and target in nats per sample.

    Source: after the linear PI controller of Shao et al. 2020 (ControlVAE, arXiv:2004.05988), in the log domain.
    """
    low, high = math.log(min_weight), math.log(max_weight)
    smoothed = smooth(state.kl, kl, decay)
    error = ((smoothed - target) / target).clamp(-1.0, 1.0)
    unlimited = state.integral + proportional * error
    outward = ((unlimited >= high) & (error > 0)) | ((unlimited <= low) & (error < 0))
    moved = torch.where(outward, state.integral, state.integral + integral * error).clamp(low, high)
    weight = (moved + proportional * error).clamp(low, high).exp()
    return _unless_non_finite(state, ControllerState(smoothed, moved, weight), kl)


def multiplier_step(
    state: ControllerState,
    kl: Tensor,
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

    Shapes: every tensor is 0-dim. Units: KL and target in nats per sample.

    Source: the augmented Lagrangian (Nocedal and Wright, Numerical Optimization, ch. 17.3) of the constraints behind
    Burgess et al. 2018 (arXiv:1804.03599); GECO (Rezende and Viola 2018, arXiv:1810.00597) bounds the distortion so.
    """
    smoothed = smooth(state.kl, kl, decay)
    error = ((smoothed - target) / target).clamp(-1.0, 1.0)
    scale = torch.clamp(state.integral.abs(), min=max(base_weight, 0.05))
    multiplier = (state.integral + rate * scale * error).clamp(-max_weight if two_sided else 0.0, max_weight)
    at_once = error if two_sided else error.clamp_min(0.0)
    weight = (base_weight + multiplier + gamma * scale * at_once).clamp(-max_weight, max_weight)
    return _unless_non_finite(state, ControllerState(smoothed, multiplier, weight), kl)


def _unless_non_finite(old: ControllerState, new: ControllerState, kl: Tensor) -> ControllerState:
    finite = torch.isfinite(kl)
    return ControllerState(*(torch.where(finite, n, o) for n, o in zip(new, old, strict=True)))
