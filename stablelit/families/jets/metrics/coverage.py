"""Coverage and minimum matching distance: what generated jets miss, and how near they come, in energy mover's distance.

Of a batch of n real and n generated jets::

    COV = |{real jets that are the nearest real jet of some generated jet}| / n
    MMD = mean over real jets of the distance to the nearest generated jet

COV is low where the generator has lost modes, MMD is high where its jets are unlike real ones. Neither is 1 or 0 for
a perfect generator: compare with the floor, which real jets score.

Only the nearest jet of every row and column of the n x n matrix of distances is asked for. A few rounds of Sinkhorn's
iteration on all pairs at once give prices, and prices give a bound that no distance is below (in float32, two percent
short of the distance at the median); the exact programme is solved only where the bound is below what a row or a
column has already. About one pair in twenty is left.

Source: Achlioptas et al. 2018 (arXiv:1707.02392); Kansal et al. 2021 (arXiv:2106.11535) for jets; Cuturi 2013
(arXiv:1306.0895).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError, bad_argument
from stablelit.families.jets.metrics.energy_movers import TransportProblems, energy_movers_distance
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric
from stablelit.families.jets.metrics.wasserstein import Estimate

N_JETS, N_BATCHES = 100, 10
LEAST_JETS = 4
"""Two of a kind, and as many for the floor."""

_TEMPERATURE, _N_SINKHORN = 0.02, 20
# what float32 may have added to a bound
_ROUNDING = 1e-5
_PAIRS = 128


def coverage_and_mmd(
    real: Jets,
    generated: Jets,
    n_jets: int = N_JETS,
    n_batches: int = N_BATCHES,
    seed: int = 42,
    replace: bool = False,
    floor: bool = True,
) -> tuple[Estimate, Estimate]:
    """COV and MMD, averaged over batches of jets.

    Args:
        real: real jets.
        generated: generated jets.
        n_jets: jets of each kind in a batch; fewer where there are fewer. Both scores depend on it.
        n_batches: how many batches.
        seed: of numpy's generator.
        replace: draw with replacement, as the published figures have it. A jet that is there twice cannot be covered
            twice, so that few jets score a lower coverage then.
        floor: whether to score one half of the real jets against the other too.

    Returns:
        COV and MMD: means, standard errors over the batches, and floors.

    Raises:
        ConfigurationError: fewer than two jets a batch, fewer than one batch.
        DataError: fewer than four jets of a kind, a particle with negative pT, NaN or infinity.
    """
    for name, value, least in (("n_jets", n_jets, 2), ("n_batches", n_batches, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise bad_argument("coverage_and_mmd", name, value, f"an int of at least {least}")
    n_real, n_generated = real.n_jets, generated.n_jets
    if min(n_real, n_generated) < LEAST_JETS:
        raise DataError(
            f"coverage_and_mmd: {n_real} real and {n_generated} generated jets. Allowed: at least {LEAST_JETS} each."
        )
    draws = np.random.default_rng(seed)
    scores = _batches(real, generated, n_jets, n_batches, draws, replace)
    floors = np.full((1, 2), np.nan)
    if floor:
        order = torch.from_numpy(draws.permutation(n_real)).to(real.mask.device)
        halves = real.take(order[: n_real // 2]), real.take(order[n_real // 2 :])
        floors = _batches(*halves, n_jets, n_batches, draws, replace)
    error = scores.std(axis=0) / math.sqrt(n_batches)
    coverage, mmd = (
        Estimate(*(float(v) for v in column)) for column in zip(scores.mean(0), error, floors.mean(0), strict=True)
    )
    return coverage, mmd


def _batches(
    real: Jets, generated: Jets, n_jets: int, n_batches: int, draws: np.random.Generator, replace: bool
) -> np.ndarray:
    size = min(n_jets, real.n_jets, generated.n_jets)
    scores = []
    for _ in range(n_batches):
        chosen = [
            jets.take(torch.from_numpy(draws.choice(jets.n_jets, size, replace=replace)).to(jets.mask.device))
            for jets in (real, generated)
        ]
        nearest, to_nearest = nearest_jets(chosen[1], chosen[0])
        scores.append((nearest.unique().numel() / size, float(to_nearest.mean())))
    return np.array(scores)


def nearest_jets(rows: Jets, columns: Jets) -> tuple[Tensor, Tensor]:
    """The nearest column of every row, and how near to every column the nearest row is.

    Args:
        rows: n jets.
        columns: m jets.

    Returns:
        ``(n,)`` int64, and ``(m,)`` float64.

    Raises:
        DataError: a particle with negative pT, NaN or infinity.
    """
    n, m = rows.n_jets, columns.n_jets
    bound = _lower_bounds(rows, columns)
    exact = torch.full_like(bound, torch.inf)
    # the most promising of every row and column first: they rule most others out
    first = torch.zeros_like(bound, dtype=torch.bool)
    device = bound.device
    first[torch.arange(n, device=device), bound.argmin(1)] = True
    first[bound.argmin(0), torch.arange(m, device=device)] = True
    _solve(rows, columns, exact, first)
    best = torch.maximum(exact.amin(1)[:, None], exact.amin(0)[None, :])
    _solve(rows, columns, exact, (bound <= best) & exact.isinf())
    return exact.argmin(1), exact.amin(0)


def _solve(rows: Jets, columns: Jets, exact: Tensor, wanted: Tensor) -> None:
    i, j = wanted.nonzero(as_tuple=True)
    exact[i, j] = energy_movers_distance(*rows.take(i), *columns.take(j))


def _lower_bounds(rows: Jets, columns: Jets) -> Tensor:
    n, m = rows.n_jets, columns.n_jets
    device = rows.mask.device
    i, j = torch.arange(n, device=device).repeat_interleave(m), torch.arange(m, device=device).repeat(n)
    parts = [
        _sinkhorn_bounds(TransportProblems(*rows.take(some), *columns.take(others), dtype=torch.float32))
        for some, others in zip(i.split(_PAIRS), j.split(_PAIRS), strict=True)
    ]
    return torch.cat(parts).view(n, m).double() - _ROUNDING


def _sinkhorn_bounds(problems: TransportProblems) -> Tensor:
    """``sum a_i u_i + sum b_j v_j`` with ``u_i + v_j <= c_ij``: a bound for any v, and a near one for Sinkhorn's."""
    cost, supply, demand = problems.cost, problems.supply, problems.demand
    kernel = torch.exp(cost / -_TEMPERATURE)
    transposed = kernel.mT.contiguous()
    of_rows = torch.ones_like(supply)
    of_columns = demand
    for _ in range(_N_SINKHORN):
        of_columns = demand / (torch.bmm(transposed, of_rows[..., None])[..., 0] + 1e-30)
        of_rows = supply / (torch.bmm(kernel, of_columns[..., None])[..., 0] + 1e-30)
    v = _TEMPERATURE * of_columns.log()  # -inf where there is no demand: such a column rules nothing
    u = torch.where(supply > 0, (cost - v[:, None, :]).amin(2), 0.0)
    v = torch.where(supply[:, :, None] > 0, cost - u[:, :, None], torch.inf).amin(1)
    bound = (supply * u).sum(1) + (demand * torch.where(demand > 0, v, 0.0)).sum(1)
    # an overflow proves nothing, and no distance is below 0
    return bound.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp_min(0.0)


class JetCoverageMMD(TwoSampleMetric):
    """``coverage`` and ``mmd`` of generated jets; see `coverage_and_mmd` for the arguments."""

    def __init__(
        self, n_jets: int = N_JETS, n_batches: int = N_BATCHES, seed: int = 42, replace: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n_jets, self.n_batches, self.seed, self.replace = n_jets, n_batches, seed, replace

    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """Both scores."""
        coverage, mmd = coverage_and_mmd(real, generated, self.n_jets, self.n_batches, self.seed, self.replace)
        return {"coverage": coverage, "mmd": mmd}
