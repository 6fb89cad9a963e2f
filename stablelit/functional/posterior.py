"""What a set of Gaussian posteriors says of its data: the information, and how far all of it is from the prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablelit.functional.kl import LOGVAR_RANGE, gaussian_kl_per_dim


def mutual_information(mean: Tensor, logvar: Tensor, seed: int = 0) -> tuple[float, float]:
    r"""The two parts of a mean KL: the information about the sample, and the aggregate posterior's KL to the prior.

    .. math::
        \frac1N \sum_i KL(q(z|x_i) \| p) = I_q(i; z) + KL(q_{agg} \| p), \quad
        \hat I = \frac1N \sum_i \ln \frac{q(z_i|x_i)}{\frac1N \sum_k q(z_i|x_k)},\ z_i \sim q(z|x_i)

    One draw a sample, from its own generator. The estimate cannot exceed ln N: it falls short of the information of
    more than N samples, by all that is above ln N (and the other part is then too large by as much). Its two
    logarithms share their draw, so what noise is left is that of the overlap.

    Args:
        mean: posterior means, shape (N, d).
        logvar: log variances, shape (N, d).
        seed: of the draws.

    Returns:
        The information and the marginal KL, nats; both 0 where there is no sample. The second may be below 0 by noise.

    Source: Hoffman and Johnson 2016, "ELBO surgery", eq. 7 and 8.
    """
    n = len(mean)
    if n == 0:
        return 0.0, 0.0
    # in double precision on the host: the square of a difference is taken apart, so that no (N, N, d) is needed
    mu, log_variance = mean.detach().double().cpu(), logvar.detach().double().cpu().clamp(*LOGVAR_RANGE)
    noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = mu + noise * torch.exp(0.5 * log_variance)
    precision = torch.exp(-log_variance)
    distance = z.square() @ precision.T - 2.0 * z @ (mu * precision).T + (mu.square() * precision).sum(dim=1)
    log_density = -0.5 * (distance.clamp_min(0.0) + log_variance.sum(dim=1))
    own = -0.5 * (noise.square() + log_variance).sum(dim=1)
    log_density.diagonal().copy_(own)
    information = float((own - torch.logsumexp(log_density, dim=1) + math.log(n)).mean())
    kl = float(gaussian_kl_per_dim(mu, log_variance).sum(dim=1).mean())
    return information, kl - information


def active_by_mean(mean_sum: Tensor, square_sum: Tensor, count: float, threshold: float = 0.01) -> int:
    r"""Units whose posterior mean moves with the data: :math:`\#\{j: Var_x \mu_j(x) > 0.01\}`.

    Args:
        mean_sum: sum over the data of the means, shape (d,).
        square_sum: sum of their squares, shape (d,).
        count: of how many samples.
        threshold: of the variance.

    Source: Burda et al. 2016 (arXiv:1509.00519), appendix C.
    """
    variance = square_sum.double() / count - (mean_sum.double() / count).square()
    return int((variance > threshold).sum())
