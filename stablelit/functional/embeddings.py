"""What a batch of embeddings looks like: spread, rank, whether views agree, which units are dead.

Every function takes rows ``(n, d)`` (further axes are flattened), computes in float32 or better whatever autocast says,
stays on the device and returns a 0-dim tensor. Nothing here waits for the device but `rankme`, whose eigenvalues do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

NORM_EPS = 1e-6
"""Least norm that a row is divided by. The usual 1e-12 is 0 in half precision, and its gradient not a number."""


def autocast_off(z: Tensor) -> torch.autocast:
    """A context on the tensor's device in which matrix products keep their input's precision."""
    return torch.autocast(z.device.type, enabled=False)


def full_precision(z: Tensor) -> Tensor:
    """Float32 of half precision; float32 and float64 as they are."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def unit_rows(z: Tensor) -> Tensor:
    """Rows of length 1, shape (n, d); a row of zeros stays one."""
    return normalize(_rows(z), dim=1, eps=NORM_EPS)


def alignment(z0: Tensor, z1: Tensor) -> Tensor:
    r"""How far the two views of a sample are apart: :math:`E\, \|\hat x - \hat y\|^2 = 2 - 2 E \cos`.

    2 says that they are unrelated; 0 beside a `uniformity` of 0 that everything is one point.

    Args:
        z0: first views, (N, d).
        z1: second views, (N, d).

    Source: Wang and Isola 2020 (arXiv:2005.10242), eq. 7, with alpha = 2.
    """
    return (unit_rows(z0) - unit_rows(z1)).square().sum(dim=1).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    r"""How evenly rows cover the sphere: :math:`\ln E_{i \ne j}\, e^{-t \|\hat x_i - \hat x_j\|^2}`.

    0 for one point, towards -2 t for many dimensions in use. It does not see that some dimensions are unused.

    Args:
        z: rows, (n, d); with fewer than 2 the answer is not a number.
        t: how fast a pair's share falls with its distance.

    Source: Wang and Isola 2020 (arXiv:2005.10242), eq. 8, with t = 2.
    """
    return _uniformity(unit_rows(z), t)


def rankme(z: Tensor) -> Tensor:
    r"""The number of directions that the rows use, of at most min(n, d).

    .. math:: \exp\left(-\sum_k p_k \ln p_k\right), \qquad p_k = \frac{\sigma_k}{\sum_j \sigma_j} + 10^{-7}

    Of singular values of the rows as they are, neither centred nor normalised. It needs n of 4 d or more to be free of
    n; the paper takes 25 600. Runs of different losses do not compare.

    The singular values are roots of the Gram matrix's eigenvalues, in double precision, as else the root of rounding
    would count as directions. Not a number where a row is not finite. No gradient.

    Args:
        z: rows, (n, d).

    Source: Garrido et al. 2023 (arXiv:2210.02885), eq. 1.
    """
    rows = _rows(z.detach())
    # no float64 on Apple's devices
    rows = rows if rows.device.type == "mps" else rows.double()
    with autocast_off(rows):
        gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    # an eigenvalue solver raises at what is not finite
    sigma = torch.linalg.eigvalsh(torch.nan_to_num(gram, posinf=0.0, neginf=0.0)).clamp_min(0.0).sqrt()
    p = sigma / sigma.sum().clamp_min(torch.finfo(sigma.dtype).tiny) + 1e-7
    rank = torch.exp(-(p * p.log()).sum())
    return torch.where(gram.isfinite().all(), rank, math.nan).to(full_precision(z).dtype)


def rankme_fraction(z: Tensor) -> Tensor:
    """`rankme` as a share of its most: min(n, d)."""
    rows = z.flatten(1)
    return rankme(rows) / min(rows.shape)


def std_ratio(z: Tensor) -> Tensor:
    r"""How much of the greatest possible spread the unit rows have: :math:`\frac{\sqrt d}{d} \sum_k std(\hat z_k)`.

    1 for directions spread evenly, 0 for one point. It does not see wrong pairs, and one direction in use of many only
    as less spread.

    Args:
        z: rows, (n, d).

    Source: Chen and He 2021 (arXiv:2011.10566), section 4.1.
    """
    return _spread(unit_rows(z))


def positive_negative_cosine(z0: Tensor, z1: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean cosine of positives, and of the 2N - 2 negatives of every anchor.

    The second comes from :math:`\|\sum_i u_i\|^2 = \sum_i \|u_i\|^2 + 2N \bar p + 2N (2N - 2) \bar n` over the 2N rows
    of both views: no matrix. Not a number for fewer than 2 pairs.

    Args:
        z0: first views, (N, d).
        z1: second views, (N, d).
    """
    return _positive_negative(unit_rows(z0), unit_rows(z1))


def contrast_top1(z0: Tensor, z1: Tensor) -> Tensor:
    """The share of rows whose nearest row of the other view is their own positive; chance is 1/N.

    A tie counts as a miss, so that one point for all scores 0.

    Args:
        z0: first views, (N, d).
        z1: second views, (N, d).
    """
    return _nearest_is_own(unit_rows(z0), unit_rows(z1))


def pair_geometry(z: Tensor) -> dict[str, Tensor]:
    """`std_ratio` of all rows, `uniformity` of the first views, both cosines and `contrast_top1`, at the price of one.

    Args:
        z: first views, then second views in the same order, (2N, d).

    Returns:
        ``std_ratio``, ``uniform``, ``pos_cos``, ``neg_cos``, ``top1``: 0-dim.
    """
    u, n = unit_rows(z), len(z) // 2
    first, second = u[:n], u[n:]
    positive, negative = _positive_negative(first, second)
    return {
        "std_ratio": _spread(u),
        "uniform": _uniformity(first, 2.0),
        "pos_cos": positive,
        "neg_cos": negative,
        "top1": _nearest_is_own(first, second),
    }


def dead_fraction(h: Tensor) -> Tensor:
    """The share of units that are exactly 0 on every row, as a dead rectifier's are.

    Args:
        h: what an encoder gives, (n, d).
    """
    return (h.flatten(1) == 0).all(dim=0).float().mean()


def _rows(z: Tensor) -> Tensor:
    return full_precision(z).flatten(1)


def _uniformity(u: Tensor, t: float) -> Tensor:
    n = len(u)
    if n < 2:
        return u.new_full((), math.nan)
    with autocast_off(u):
        similarity = u @ u.T
    similarity.diagonal().fill_(-math.inf)
    return torch.logsumexp(2.0 * t * (similarity - 1.0).flatten(), dim=0) - math.log(n * (n - 1))


def _spread(u: Tensor) -> Tensor:
    # `std` along the first axis takes six times as long on a processor
    return (u - u.mean(dim=0)).square().mean(dim=0).sqrt().mean() * math.sqrt(u.shape[1])


def _positive_negative(u0: Tensor, u1: Tensor) -> tuple[Tensor, Tensor]:
    n = len(u0)
    positives = (u0 * u1).sum(dim=1)
    own = u0.square().sum() + u1.square().sum()
    if n < 2:
        return positives.mean(), positives.new_full((), math.nan)
    total = (u0.sum(dim=0) + u1.sum(dim=0)).square().sum()
    return positives.mean(), (total - own - 2.0 * positives.sum()) / (2 * n * (2 * n - 2))


def _nearest_is_own(u0: Tensor, u1: Tensor) -> Tensor:
    with autocast_off(u0):
        similarity = u0 @ u1.T
    own = similarity.diagonal()
    first = (similarity >= own[:, None]).sum(dim=1) == 1
    second = (similarity >= own[None, :]).sum(dim=0) == 1
    return 0.5 * (first.to(u0.dtype).mean() + second.to(u0.dtype).mean())
