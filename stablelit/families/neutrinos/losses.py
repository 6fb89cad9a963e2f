r"""What a predicted direction costs: an angle, or the likelihood of a von Mises-Fisher distribution.

A network gives three numbers :math:`f`: the direction :math:`\mu = f / |f|` and how sure it is of it,
:math:`\kappa = |f|`. Every loss takes f ``(B, 3)`` and the true direction t ``(B, 3)``, of length 1, and returns
``(B,)``, computed in float32 (or float64, where the numbers come so) whatever autocast says. What is averaged is the
module's.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stablelit.families.neutrinos.angles import angle_between, unit_vector
from stablelit.functional.rank_gather import mean_over_ranks
from stablelit.functional.schedules import check_number

SERIES_BELOW = 0.9
"""kappa below which the von Mises-Fisher density is a series: there, ``1 / kappa - coth kappa`` cancels."""
# of log(sinh(kappa) / kappa), in powers of kappa^2
_SERIES = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)


def angular_loss(f: Tensor, t: Tensor) -> Tensor:
    """The angle between f and t, ``2 atan2(|n - t|, |n + t|)`` with ``n = f / |f|``, in radians.

    Its gradient with respect to n has length 1 at every angle; kappa is not trained by it.

    Args:
        f: ``(B, 3)`` predictions.
        t: ``(B, 3)`` unit vectors.

    Returns:
        ``(B,)`` radians.
    """
    with _full_precision(f):
        return angle_between(unit_vector(_full(f)), _full(t))


def acos_loss(f: Tensor, t: Tensor) -> Tensor:
    """``acos(clamp(n . t, -1, 1))``: the usual form, whose gradient is NaN where ``n . t`` is 1 or -1 exactly.

    In float32, clamped, that is two of three predictions within 1e-4 rad of the truth, so that it ends a training that
    goes well: it is here to be compared with. `angular_loss` is the same angle.

    Args:
        f: ``(B, 3)`` predictions.
        t: ``(B, 3)`` unit vectors.

    Returns:
        ``(B,)`` radians.
    """
    return _acos(f, t, 0.0)


def acos_loss_clamped_inside(f: Tensor, t: Tensor) -> Tensor:
    """``acos(clamp(n . t, -1 + 1e-4, 1 - 1e-4))``: no NaN, and no gradient below 0.81 degrees.

    Nor does it ever report a smaller angle than that. It is here to be compared with, as `acos_loss`.

    Args:
        f: ``(B, 3)`` predictions.
        t: ``(B, 3)`` unit vectors.

    Returns:
        ``(B,)`` radians, from 0.01414 to pi - 0.01414.
    """
    return _acos(f, t, 1e-4)


def von_mises_fisher_nll(f: Tensor, t: Tensor) -> Tensor:
    r"""Minus the log density of t under the von Mises-Fisher distribution on the sphere, in nats.

    .. math:: p(t | f) = C(\kappa) e^{\kappa \mu \cdot t}, \qquad C(\kappa) = \frac{\kappa}{4 \pi \sinh \kappa},

    .. math:: -\log p = \log 2\pi - \log \kappa + \log(1 - e^{-2 \kappa}) + \kappa (1 - \mu \cdot t),

    with :math:`\kappa |t - \mu|^2 / 2` for the last term, which a rounding of t cannot make negative. Below
    `SERIES_BELOW` it is a series in :math:`\kappa^2`, so that f = 0, where nothing is known, has the gradient -t:

    .. math:: -\log p = \log 4\pi + \frac{\kappa^2}{6} - \frac{\kappa^4}{180} + \frac{\kappa^6}{2835}
       - \frac{\kappa^8}{37800} + \frac{\kappa^{10}}{467775} - \frac{691 \kappa^{12}}{3831077250} - f \cdot t.

    This is exact for the sphere. The approximations for any dimension that are in use have another slope above
    kappa = 100 and hold kappa there, 8 degrees, however good the directions are.

    Source: R. A. Fisher, Proc. R. Soc. A 217 (1953) 295; Mardia and Jupp, Directional Statistics (2000), section 9.3.2.

    Args:
        f: ``(B, 3)`` predictions, kappa = |f|.
        t: ``(B, 3)`` unit vectors.

    Returns:
        ``(B,)`` nats; ``log 4 pi`` = 2.531 for f = 0.
    """
    with _full_precision(f):
        f, t = _full(f), _full(t)
        square = f.square().sum(dim=-1)
        small = square < SERIES_BELOW**2
        # each branch sees numbers that it is made for: the gradient of the one that is not taken is 0, not NaN
        low = torch.where(small, square, 0.0)
        series = torch.zeros_like(low)
        for coefficient in reversed(_SERIES):
            series = low * (coefficient + series)
        below = math.log(4 * math.pi) + series - (f * t).sum(dim=-1)
        kappa = torch.where(small, 1.0, square).sqrt()
        distance = (t - f / kappa[..., None]).square().sum(dim=-1)
        above = math.log(2 * math.pi) - kappa.log() + torch.log1p(-torch.exp(-2 * kappa)) + kappa * distance / 2
        return torch.where(small, below, above)


def angle_plus_von_mises_fisher(f: Tensor, t: Tensor, weight: float = 0.05) -> Tensor:
    """``angular_loss + weight * von_mises_fisher_nll``: the metric itself, with a kappa that goes on being trained.

    Source: the second place of "IceCube - Neutrinos in Deep Ice" (2023) ended its training on it, weight 0.05.

    Args:
        f: ``(B, 3)`` predictions.
        t: ``(B, 3)`` unit vectors.
        weight: of the likelihood, radians per nat.

    Returns:
        ``(B,)``.

    Raises:
        ConfigurationError: a weight that is negative or no finite number.
    """
    check_number("angle_plus_von_mises_fisher", "weight", weight, at_least=0.0)
    return angular_loss(f, t) + weight * von_mises_fisher_nll(f, t)


def energy_loss(predicted: Tensor, log10_energy: Tensor) -> Tensor:
    """Huber loss of the logarithm of the energy, quadratic within one decade; 0 where the truth is NaN.

    Args:
        predicted: ``(B,)`` log10 of GeV.
        log10_energy: ``(B,)`` log10 of GeV, NaN where it is not known.

    Returns:
        ``(B,)`` decades squared, halved.
    """
    with _full_precision(predicted):
        known = ~log10_energy.isnan()
        predicted, truth = _full(predicted), _full(log10_energy)
        # the truth takes the prediction's place: 0 is the loss, and the gradient
        return F.huber_loss(predicted, torch.where(known, truth, predicted.detach()), reduction="none", delta=1.0)


def track_loss(logit: Tensor, is_track: Tensor) -> Tensor:
    """Binary cross entropy of "this is a track" in nats; 0 where the truth is NaN.

    Args:
        logit: ``(B,)`` log odds.
        is_track: ``(B,)`` 1 for a track, 0 for a cascade, NaN where it is not known.

    Returns:
        ``(B,)`` nats.
    """
    with _full_precision(logit):
        truth = _full(is_track)
        known = ~truth.isnan()
        found = F.binary_cross_entropy_with_logits(_full(logit), torch.where(known, truth, 0.5), reduction="none")
        return torch.where(known, found, 0.0)


def mean_over_known(losses: Tensor, truth: Tensor, among_ranks: bool = False) -> Tensor:
    """The mean of ``(B,)`` losses over the events whose truth ``(B,)`` is not NaN; 0 where it is NaN for all.

    Args:
        losses: of each event.
        truth: of each event.
        among_ranks: divides by the mean number over ranks, for data-parallel training; all ranks must ask for it.
    """
    known = ~truth.isnan()
    count = mean_over_ranks(known.sum()) if among_ranks else known.sum()
    # ranks may have less than one each
    return torch.where(known, losses, 0.0).sum() / torch.where(count > 0, count, 1)


def _acos(f: Tensor, t: Tensor, margin: float) -> Tensor:
    with _full_precision(f):
        cosine = (unit_vector(_full(f)) * _full(t)).sum(dim=-1)
        return torch.acos(cosine.clamp(-1.0 + margin, 1.0 - margin))


def _full(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _full_precision(values: Tensor) -> AbstractContextManager[Any]:
    kind = values.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
