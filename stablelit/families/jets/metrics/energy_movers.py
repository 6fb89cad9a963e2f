"""The energy mover's distance of two jets: the least work that turns one into the other.

    EMD = min_f  sum_ij f_ij theta_ij / R  +  | sum_i z_i - sum_j z'_j |
    f_ij >= 0,   sum_j f_ij <= z_i,   sum_i f_ij <= z'_j,   sum_ij f_ij = min(sum_i z_i, sum_j z'_j)

with R = 1, theta the distance in (eta, phi) and z = ptrel: the defaults of energyflow's `emds`, which JetNet uses. The
lighter jet gets one more particle with the missing pT at distance R from everything, which makes it a balanced
transport problem, a linear programme.

Jets are small and pairs are many, so whole batches of programmes are solved in step by a primal-dual interior point
method (Mehrotra's predictor and corrector). It starts from the plan ``z_i z'_j / sum z`` and from prices below all
costs, which meet all constraints; so does every iterate after it. Each iterate therefore encloses the distance between
what its plan costs and what its prices prove, and the iteration ends when the two meet.

Source: Komiske, Metodiev, Thaler 2019 (arXiv:1902.02346), eq. 1; Mehrotra 1992, SIAM J. Optim. 2, 575.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.jets.features import wrap_angle

TOLERANCE = 1e-10
"""Bounds as near as this, in units of pT_jet, have met."""

_ACCEPTED = 1e-6
_MOST_ITERATIONS = 60
_SHORT_OF_THE_WALL = 0.995
_PROHIBITIVE = 1e4
_CHUNK_BYTES = 1 << 19


class TransportProblems:
    """Pairs of jets as balanced transport problems, the particle of the missing pT in the last place.

    Args:
        first: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        first_mask: ``(B, N)`` bool.
        second: ``(B, M, 3)``.
        second_mask: ``(B, M)`` bool.
        dtype: of the arithmetic.
    """

    def __init__(
        self, first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor, dtype: torch.dtype = torch.float64
    ) -> None:
        first, second = first.to(dtype), second.to(dtype)
        supply = torch.where(first_mask, first[..., 2], 0.0)
        demand = torch.where(second_mask, second[..., 2], 0.0)
        missing = demand.sum(1, keepdim=True) - supply.sum(1, keepdim=True)
        self.supply = torch.cat([supply, missing.clamp_min(0.0)], dim=1)
        self.demand = torch.cat([demand, (-missing).clamp_min(0.0)], dim=1)
        eta = first[:, :, None, 0] - second[:, None, :, 0]
        phi = wrap_angle(first[:, :, None, 1] - second[:, None, :, 1])
        self.cost = torch.nn.functional.pad(torch.hypot(eta, phi), (0, 1, 0, 1), value=1.0)


def energy_movers_distance(first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor) -> Tensor:
    """The distance of each pair of jets.

    Args:
        first: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        first_mask: ``(B, N)`` bool.
        second: ``(B, M, 3)``.
        second_mask: ``(B, M)`` bool.

    Returns:
        ``(B,)`` float64 in units of pT_jet, about 1e-9 from the exact value (1e-6 would be refused).

    Raises:
        DataError: a particle with negative pT, NaN or infinity, or a problem whose bounds did not meet.
    """
    for name, particles, mask in (("first", first, first_mask), ("second", second, second_mask)):
        bad = mask & ((particles[..., 2] < 0) | ~particles.isfinite().all(-1))
        if n_bad := int(bad.any(dim=1).sum()):
            raise DataError(
                f"energy_movers_distance: {n_bad} of {len(particles)} {name} jets have a particle with negative pT, "
                f"NaN or infinity. Allowed: finite numbers, pT of at least 0."
            )
    size = 8 * (first.shape[1] + 1) * (second.shape[1] + 1)
    chunk = max(1, _CHUNK_BYTES // size)
    parts = []
    for pair in zip(*(part.split(chunk) for part in (first, first_mask, second, second_mask)), strict=True):
        problems = TransportProblems(*pair)
        lower, upper = transport_cost(problems.cost, problems.supply, problems.demand)
        parts.append(0.5 * (lower + upper))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=first.device)


def transport_cost(cost: Tensor, supply: Tensor, demand: Tensor, tolerance: float = TOLERANCE) -> tuple[Tensor, Tensor]:
    """Bounds of ``min sum_ij c_ij x_ij`` over ``x >= 0`` with row sums `supply` and column sums `demand`.

    Args:
        cost: ``(B, n, m)`` float64.
        supply: ``(B, n)``, not negative.
        demand: ``(B, m)``, not negative, of the same sum.
        tolerance: how near the bounds are to come; weights that differ by many orders stop them a little earlier.

    Returns:
        Lower and upper bound, ``(B,)`` each.

    Raises:
        DataError: bounds further apart than 1e-6 when arithmetic is exhausted.
    """
    lower = torch.zeros(len(cost), dtype=cost.dtype, device=cost.device)
    upper = torch.zeros_like(lower)
    left = (supply.sum(1) > 0).nonzero()[:, 0]  # a pair of empty jets has nothing to move
    state = _InteriorPoint(cost[left], supply[left], demand[left])
    width = torch.full_like(lower, torch.inf)
    width[supply.sum(1) <= 0] = 0.0
    for _ in range(_MOST_ITERATIONS):
        if not len(left):
            break
        low, high = state.bounds()
        nearer = high - low < width[left]  # NaN, which is what comes after the last digit, is not
        lower[left[nearer]], upper[left[nearer]] = low[nearer], high[nearer]
        width[left[nearer]] = (high - low)[nearer]
        going = (width[left] > tolerance) & (high - low).isfinite()
        if not bool(going.all()):
            left, state = left[going], state.only(going)
        if len(left):
            state.step()
    if n_wide := int((width > max(tolerance, _ACCEPTED)).sum()):
        raise DataError(
            f"transport_cost: {n_wide} of {len(cost)} problems are enclosed to no better than {float(width.max()):.3g} "
            f"(allowed: {_ACCEPTED:g}). Supply and demand of one problem must have one sum, and finite costs."
        )
    return lower, upper


class _InteriorPoint:
    """A plan x and prices u, v with slacks ``s_ij = c_ij - u_i - v_j``: all positive, all constraints met.

    What does not take part (rows without supply, columns without demand) has x = 0 and a cost beyond all prices: it
    stays as it is without being asked for.
    """

    def __init__(self, cost: Tensor, supply: Tensor, demand: Tensor) -> None:
        self.supply, self.demand = supply, demand
        there = (supply > 0)[:, :, None] & (demand > 0)[:, None, :]
        self.there = there.to(cost.dtype)
        self.absent = 1.0 - self.there
        self.cost = torch.where(there, cost, _PROHIBITIVE)
        self.plan = supply[:, :, None] * demand[:, None, :] / supply.sum(1)[:, None, None]
        self.u = torch.zeros_like(supply)
        self.v = torch.where(demand > 0, self.cost.amin(1) - 0.1, 0.0)
        # prices are known up to a constant only: one column keeps its price, and it has to take part
        self.pinned = torch.nn.functional.one_hot(demand.argmax(1), demand.shape[1]).to(cost.dtype)

    def only(self, kept: Tensor) -> _InteriorPoint:
        """The problems where `kept` is True."""
        few = object.__new__(_InteriorPoint)
        few.__dict__.update({name: values[kept] for name, values in self.__dict__.items()})
        return few

    def bounds(self) -> tuple[Tensor, Tensor]:
        """What the prices prove and what the plan costs."""
        return (self.supply * self.u).sum(1) + (self.demand * self.v).sum(1), (self.plan * self.cost).sum((1, 2))

    def step(self) -> None:
        """One predictor and corrector. With ``q = ds / s``, a full step to zero gap has ``dx = -x (1 + q)``."""
        x = self.plan
        over_slack = (self.cost - self.u[:, :, None] - self.v[:, None, :]).reciprocal_()
        ratio = x * over_slack
        rows = ratio.sum(2) + (self.supply <= 0)
        columns = ratio.sum(1) + (self.demand <= 0)
        by_row = ratio / rows[:, :, None]
        normal = torch.bmm(ratio.mT, by_row).neg_()
        normal.diagonal(dim1=1, dim2=2).add_(columns * (1.0 + 1e-14 + self.pinned))
        root, _ = torch.linalg.cholesky_ex(normal)

        def prices(row_sums: Tensor, column_sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            right = column_sums - torch.bmm(by_row.mT, row_sums[..., None])[..., 0]
            dv = torch.cholesky_solve(right[..., None], root)[..., 0]
            du = (row_sums - torch.bmm(ratio, dv[..., None])[..., 0]) / rows
            return du, dv, (du[:, :, None] + dv[:, None, :]).neg_().mul_(over_slack)

        du, dv, q = prices(self.supply, self.demand)
        x_length = (1.0 + q.amax((1, 2))).clamp_min(1.0).reciprocal()
        s_length = (-q.amin((1, 2))).clamp_min(1.0).reciprocal()
        # the gap at the end of these steps is a polynomial in their lengths
        products = x / over_slack
        gap = products.sum((1, 2))
        linear = products.mul_(q).sum((1, 2))
        square = products.mul_(q).sum((1, 2))
        left = 1.0 - x_length
        reached = left * gap + (left * s_length - x_length) * linear - x_length * s_length * square
        centre = (reached / gap).clamp(0.0, 1.0) ** 3 * gap / self.there.sum((1, 2))

        wanted = (self.there * over_slack).mul_(centre[:, None, None])
        wanted.add_((1.0 + q).mul_(q).sub_(1.0).mul_(x))
        du, dv, q = prices(-wanted.sum(2), -wanted.sum(1))
        dx = wanted.sub_(q.mul(x))
        x_length = (-(dx / (x + self.absent)).amin((1, 2)) / _SHORT_OF_THE_WALL).clamp_min(1.0).reciprocal()
        s_length = (-q.amin((1, 2)) / _SHORT_OF_THE_WALL).clamp_min(1.0).reciprocal()
        self.plan = dx.mul_(x_length[:, None, None]).add_(x)
        self.u, self.v = self.u + s_length[:, None] * du, self.v + s_length[:, None] * dv
