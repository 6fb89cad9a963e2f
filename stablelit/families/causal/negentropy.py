r"""How far from Gaussian values are: the approximation of the negentropy that LiNGAM methods use, and a test with it.

For a standardised u (Hyvarinen 1998, *New approximations of differential entropy*; the constants as in Hyvarinen and
Smith 2013),

.. math:: J(u) = k_1\,(E\log\cosh u - \gamma)^2 + k_2\,(E\,u\,e^{-u^2/2})^2,
          \qquad H(u) \approx \tfrac12\log 2\pi e - J(u),

with :math:`k_1 = 79.047`, :math:`k_2 = 7.4129` and :math:`\gamma = 0.37457`. The first term sees heavy or light tails,
the second skewness. Each constant is one over twice the variance of its statistic for n Gaussian values, times n, so
that for these :math:`2 n J` follows a chi-squared law with 2 degrees of freedom for large n.
"""

from __future__ import annotations

import math

import numpy as np

from stablelit.families.causal.panel import Floats

K1, K2, GAMMA = 79.047, 7.4129, 0.37457


def negentropy(values: Floats) -> float:
    """J of values that are standardised here, ``(n,)``; 0 of fewer than three, and where they do not vary.

    Example:
        >>> round(negentropy(np.random.default_rng(0).laplace(size=10_000)), 1)
        0.1
    """
    if len(values) < 3:
        return 0.0
    centred = values - values.mean()
    variance = float(centred @ centred) / len(centred)
    return float(standardised_negentropy(centred / math.sqrt(variance))) if variance > 0 else 0.0


def standardised_negentropy(u: Floats) -> Floats:
    """J along the last axis of values with mean 0 and variance 1 there."""
    decay = np.abs(u)
    mean_size = decay.mean(axis=-1)
    np.exp(np.multiply(decay, -2.0, out=decay), out=decay)
    log_cosh = mean_size + np.log1p(decay, out=decay).mean(axis=-1) - math.log(2.0)
    weight = np.multiply(u, u)
    np.exp(np.multiply(weight, -0.5, out=weight), out=weight)
    skew = np.multiply(weight, u, out=weight).mean(axis=-1)
    return np.asarray(K1 * (log_cosh - GAMMA) ** 2 + K2 * skew**2)


def gaussian_p_value(statistic: float, columns: int) -> float:
    r"""How likely Gaussian values are to make the sum of 2 n J over `columns` as large as `statistic`.

    The tail of chi-squared with 2 `columns` degrees of freedom: :math:`e^{-s/2} \sum_{i<c} (s/2)^i / i!`.
    """
    half = max(statistic, 0.0) / 2.0
    if half == 0.0:
        return 1.0
    logs = np.array([i * math.log(half) - math.lgamma(i + 1) - half for i in range(columns)])
    return float(min(1.0, np.exp(logs).sum()))
