"""How far generated jets are from real ones: Wasserstein distances, always beside their real-against-real floor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stablelit.errors import DataError

N_FLOOR_SPLITS = 8


def jet_mass(particles: Tensor, mask: Tensor) -> Tensor:
    """Mass of jets of massless particles, in units of the jet's pT.

    ``m^2 = (sum z cosh eta)^2 - (sum z cos phi)^2 - (sum z sin phi)^2 - (sum z sinh eta)^2`` with z = ptrel, in float64
    because it is a small difference of large numbers.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.

    Returns:
        ``(B,)`` float64.
    """
    eta, phi, ptrel = particles.double().unbind(-1)
    z = ptrel * mask
    energy, p_z = (z * torch.cosh(eta)).sum(-1), (z * torch.sinh(eta)).sum(-1)
    p_x, p_y = (z * torch.cos(phi)).sum(-1), (z * torch.sin(phi)).sum(-1)
    return (energy**2 - p_x**2 - p_y**2 - p_z**2).clamp_min(0.0).sqrt()


def wasserstein_1d(first: Tensor, second: Tensor) -> Tensor:
    """Exact Wasserstein-1 distance of two samples, also of unequal sizes.

    ``W_1 = integral_0^1 |F^-1(q) - G^-1(q)| dq``: both quantile functions are staircases, so the integral is a sum over
    the merged steps ``i / n`` and ``j / m``, which are kept as integers in units of ``1 / (n m)``.

    Args:
        first: ``(n,)``.
        second: ``(m,)``.

    Returns:
        ``()`` float64, in the units of the values.

    Raises:
        DataError: an empty sample.
    """
    n, m = first.numel(), second.numel()
    if n == 0 or m == 0:
        raise DataError(f"wasserstein_1d: samples of {n} and {m} values. Allowed: at least one value each.")
    a, b = first.double().flatten().sort().values, second.double().flatten().sort().values
    steps = torch.cat([torch.arange(n, device=a.device) * m, torch.arange(m, device=a.device) * n]).sort().values
    width = torch.diff(steps, append=steps.new_tensor([n * m]))
    difference = (a[torch.div(steps, m, rounding_mode="floor")] - b[torch.div(steps, n, rounding_mode="floor")]).abs()
    return (difference * width).sum() / (n * m)


class JetMassW1(Metric):
    """Wasserstein-1 distance of relative jet masses (m / pT) of generated jets to real ones, and its floor.

    The floor is what real jets score against real jets: the mean over eight fixed random halvings of the reference,
    scaled by ``1 / sqrt 2`` because a distance between samples of n/2 is that much larger than between samples of n.

    `compute` returns ``{"mass_w1", "mass_w1_floor"}``; the floor is NaN for fewer than two real jets.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("generated", default=[], dist_reduce_fx="cat")

    def update(self, particles: Tensor, mask: Tensor, real: bool) -> None:
        """Adds jets ``(B, N, 3)`` with mask ``(B, N)`` to the real ones or to the generated ones."""
        (self.real if real else self.generated).append(jet_mass(particles, mask))

    def masses(self) -> tuple[Tensor, Tensor]:
        """Relative masses seen so far: of real and of generated jets."""
        return _joined(self.real), _joined(self.generated)

    def compute(self) -> dict[str, Tensor]:
        """The distance and its floor, both in units of m / pT."""
        real, generated = self.masses()
        return {"mass_w1": wasserstein_1d(generated, real), "mass_w1_floor": real_against_real(real)}


def real_against_real(values: Tensor) -> Tensor:
    """What a sample scores against itself; see `JetMassW1`."""
    if values.numel() < 2:
        return values.new_tensor(float("nan"))
    draws = torch.Generator().manual_seed(0)
    half = values.numel() // 2
    scores = []
    for _ in range(N_FLOOR_SPLITS):
        order = torch.randperm(values.numel(), generator=draws).to(values.device)
        scores.append(wasserstein_1d(values[order[:half]], values[order[half:]]))
    return torch.stack(scores).mean() / 2**0.5


def _joined(values: list[Tensor] | Tensor) -> Tensor:
    # torchmetrics turns the list into one tensor when it gathers ranks
    if isinstance(values, Tensor):
        return values
    return torch.cat(values) if values else torch.zeros(0, dtype=torch.double)
