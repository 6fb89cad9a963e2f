r"""Whether kappa tells the truth about how sure the predictions are.

Under the von Mises-Fisher distribution the share of the probability that lies nearer to the prediction than the truth

.. math:: u = \frac{1 - e^{-\kappa (1 - \cos \theta)}}{1 - e^{-2 \kappa}}

is uniform between 0 and 1 over events if the kappas are right: 68 % of the truths then lie in their predictions'
68 % caps. The integral over a cap of the density of R. A. Fisher, Proc. R. Soc. A 217 (1953) 295.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.families.neutrinos.angles import LEAST_LENGTH, length
from stablelit.families.neutrinos.metrics.histograms import add_to_histogram, check_shapes, quantiles
from stablelit.nn.summed_metric import SummedMetric

COVERAGES = (50, 68, 90)
N_BINS = 4096
# decades; 512 bins each
LEAST_LOG10, MOST_LOG10 = -6.0, 8.0
N_LOG_BINS = 14 * 512


def probability_integral(f: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    r"""The u of the module docstring, and :math:`-\log(1 - u)`, which tells apart those that are nearly 1.

    Args:
        f: ``(B, 3)`` predictions, kappa = |f|.
        t: ``(B, 3)`` unit vectors.

    Returns:
        Both ``(B,)`` float64; NaN where a prediction is not finite.
    """
    f, t = f.detach().double(), t.detach().double()
    kappa = length(f).clamp_min(LEAST_LENGTH)
    # 1 - cos as a square does not go below 0 by rounding
    versine = (t - f / kappa[:, None]).square().sum(dim=-1).clamp_max(4.0) / 2
    u = torch.expm1(-kappa * versine) / torch.expm1(-2 * kappa)
    rest = (2 - versine).clamp_min(0.0)
    log_rest = torch.log(-torch.expm1(-kappa * rest)) - torch.log(-torch.expm1(-2 * kappa))
    return u.clamp(0.0, 1.0), (kappa * versine - log_rest).clamp_min(0.0)


def cap_radius(kappa: Tensor, share: float) -> Tensor:
    r"""The angle of the cap around a prediction that holds a share of the probability, rad.

    The inverse of `probability_integral`: :math:`1 - \cos \theta = -\log(1 - u (1 - e^{-2 \kappa})) / \kappa`; for
    kappa = 0 the cap of an even sphere, for large ones :math:`\sqrt{-2 \log(1 - u) / \kappa}`.

    Args:
        kappa: of any shape, 0 or more.
        share: u, between 0 and 1.

    Returns:
        float64, in [0, pi], of kappa's shape.
    """
    kappa = kappa.detach().double().clamp_min(LEAST_LENGTH)
    versine = -torch.log1p(share * torch.expm1(-2 * kappa)) / kappa
    # acos would lose an angle of 1e-8
    return 2 * torch.asin((versine / 2).clamp(0.0, 1.0).sqrt())


class KappaCalibration(SummedMetric):
    r"""Coverage of the predicted distributions, and the size of kappa.

    `compute` returns

    - ``coverage_50``, ``coverage_68``, ``coverage_90``: the share of truths inside caps that should hold 50, 68 and
      90 % of them. Below: overconfident;
    - ``kappa_ks``: the largest distance of the distribution of u from the uniform one (Kolmogorov-Smirnov), to 2.4e-4;
    - ``pull_width``: the factor by which quoted angles are to be widened so that 68 % are covered,
      :math:`\sqrt{-\log(1 - u_{68}) / -\log 0.32}`; 1 if calibrated, above 1 if overconfident, to 0.3 %;
    - ``log10_kappa_median`` and ``log10_kappa_99``, its 99th percentile: where a kappa runs away, it is seen here.

    Counts in histograms of fixed bins, so that a state has one size for any number of events and ranks are summed.
    """

    covered: Tensor
    count: Tensor
    shares: Tensor
    depths: Tensor
    kappas: Tensor
    not_finite: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, size in (("covered", len(COVERAGES)), ("shares", N_BINS)):
            self.add_count(name, size)
        for name in ("depths", "kappas"):
            self.add_count(name, N_LOG_BINS)
        for name in ("count", "not_finite"):
            self.add_count(name)

    def update(self, f: Tensor, t: Tensor) -> None:
        """Adds predictions ``(B, 3)``, kappa = |f|, with their truths ``(B, 3)``, unit vectors.

        Raises:
            DataError: other shapes.
        """
        check_shapes(type(self).__name__, f, t)
        u, depth = probability_integral(f, t)
        # a tensor of the three would be copied to the device, and waited for
        self.covered += torch.stack([(u <= percent / 100).sum() for percent in COVERAGES])
        self.count += len(u)
        self.not_finite += u.isnan().sum()
        add_to_histogram(self.shares, u, 0.0, 1.0)
        add_to_histogram(self.depths, depth.log10(), LEAST_LOG10, MOST_LOG10)
        add_to_histogram(self.kappas, length(f.detach().double()).log10(), LEAST_LOG10, MOST_LOG10)

    def compute(self) -> dict[str, Tensor]:
        """The numbers of the class, float64; NaN without events, and where a prediction was not finite."""
        covered = self.covered.double() / self.count
        edges = torch.arange(1, N_BINS + 1, dtype=torch.float64, device=covered.device) / N_BINS
        depth = 10 ** quantiles(self.depths, (0.68,), LEAST_LOG10, MOST_LOG10)[0]
        kappa = quantiles(self.kappas, (0.5, 0.99), LEAST_LOG10, MOST_LOG10)
        found = {f"coverage_{percent}": share for percent, share in zip(COVERAGES, covered, strict=True)}
        found["kappa_ks"] = (self.shares.cumsum(dim=0) / self.count - edges).abs().max()
        found["pull_width"] = (depth / -math.log(0.32)).sqrt()
        found["log10_kappa_median"], found["log10_kappa_99"] = kappa
        return {name: torch.where(self.not_finite > 0, math.nan, value).double() for name, value in found.items()}
