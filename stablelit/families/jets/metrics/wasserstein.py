"""Wasserstein-1 distances of one quantity, with their statistical error and what real jets score against real jets.

A jet may bring one value (its mass) or many (a feature of each particle); what is resampled is always jets, since the
particles of a jet depend on one another. Values are sorted once: a resampled set is the same values with other weights,
so that a hundred resamplings cost a hundred cumulative sums and no further sorting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError, bad_argument

N_FLOOR_SPLITS = 8
PUBLISHED_JETS = 50_000
"""How many jets the published figures of JetNet were measured with."""


class Estimate(NamedTuple):
    """A number, its standard error and what real jets score against real jets; NaN where one is not known."""

    value: float
    std: float = float("nan")
    floor: float = float("nan")


class PerJet(NamedTuple):
    """Values and the jet each of them belongs to.

    Args:
        values: ``(K,)``.
        jet: ``(K,)`` int64, or None where every jet has one value, in order.
        n_jets: how many jets.
    """

    values: Tensor
    jet: Tensor | None
    n_jets: int

    @classmethod
    def of(cls, values: Tensor, mask: Tensor | None = None) -> PerJet:
        """One value a jet ``(n,)``; or with a mask, of every particle ``(n, N)`` those that are there."""
        if mask is None:
            return cls(values.double(), None, len(values))
        return cls(values[mask].double(), mask.nonzero()[:, 0], len(values))

    def weights(self, of_jets: Tensor) -> Tensor:
        """What every value weighs if jets weigh `of_jets` ``(n_jets,)``."""
        return of_jets if self.jet is None else of_jets[self.jet]


class _Sorted:
    """All values in order, for the distance between any two weightings of them."""

    def __init__(self, values: Tensor) -> None:
        ordered, self.order = values.sort()
        self.gaps = ordered.diff()

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """``integral |F(x) - G(x)| dx`` of two sets of weights over the values, float64 and not all zero."""
        apart = first[self.order] / first.sum() - second[self.order] / second.sum()
        return (apart.cumsum(0)[:-1].abs() * self.gaps).sum()


class _Pooled:
    """The values of real and of generated jets in one order.

    Raises:
        DataError: a sample without values.
    """

    def __init__(self, real: PerJet, generated: PerJet) -> None:
        self.sides = (real, generated)
        self.sizes = [len(side.values) for side in self.sides]
        if min(self.sizes) == 0:
            raise DataError(
                f"Wasserstein distance: {self.sizes[0]} values of {real.n_jets} real jets and {self.sizes[1]} values "
                f"of {generated.n_jets} generated ones. Allowed: at least one value each."
            )
        self.sorted = _Sorted(torch.cat([side.values for side in self.sides]))

    def distance(self, counts: tuple[Tensor, ...] | None = None) -> Tensor:
        """The distance where every jet of both sides counts as often as said; once, where nothing is said."""
        weights = self.sorted.gaps.new_zeros(2, sum(self.sizes))
        for row, part, side in zip((0, 1), (slice(self.sizes[0]), slice(self.sizes[0], None)), self.sides, strict=True):
            weights[row, part] = 1.0 if counts is None else side.weights(counts[row].to(weights))
        return self.sorted.distance(*weights)

    def resampled(self, n_samples: int | None, n_batches: int, seed: int) -> Tensor:
        """Distances ``(n_batches,)`` of jets drawn with replacement."""
        draws = np.random.default_rng(seed)
        scores = []
        for _ in range(n_batches):
            chosen = [draws.integers(0, side.n_jets, n_samples or side.n_jets) for side in self.sides]
            counts = zip(chosen, self.sides, strict=True)
            tensors = tuple(torch.from_numpy(np.bincount(some, minlength=side.n_jets)) for some, side in counts)
            scores.append(self.distance(tensors))
        return torch.stack(scores)


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


def bootstrap_w1(
    real: PerJet, generated: PerJet, n_samples: int | None = None, n_batches: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the distance over jets drawn with replacement.

    With ``n_samples=PUBLISHED_JETS, n_batches=5`` this is the protocol of JetNet's `w1m`, `w1p` and `w1efp`, whose
    published figures are these means. A mean over resampled sets lies above the distance of the sets themselves.

    Args:
        real: values of real jets.
        generated: values of generated jets.
        n_samples: jets drawn of each; None draws as many as there are.
        n_batches: how often.
        seed: of numpy's generator; real jets are drawn first, as there.

    Raises:
        ConfigurationError: fewer than one batch or sample.
        DataError: a sample without values.
    """
    for name, count in (("n_batches", n_batches), ("n_samples", 1 if n_samples is None else n_samples)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise bad_argument("bootstrap_w1", name, count, "an int of at least 1")
    found = _Pooled(real, generated).resampled(n_samples, n_batches, seed)
    return float(found.mean()), float(found.std(correction=0))


def w1_estimate(
    real: PerJet, generated: PerJet, n_bootstrap: int = 10, seed: int = 0, floor: float | None = None
) -> Estimate:
    """The distance of the two samples, its bootstrap standard deviation, and real against real.

    Args:
        real: values of real jets.
        generated: values of generated jets.
        n_bootstrap: resamplings for the standard deviation; 0 leaves it out.
        seed: of the resamplings.
        floor: real against real, where it is known.

    Raises:
        DataError: a sample without values.
    """
    pooled = _Pooled(real, generated)
    std = float(pooled.resampled(None, n_bootstrap, seed).std(correction=0)) if n_bootstrap else float("nan")
    return Estimate(float(pooled.distance()), std, float(real_against_real(real)) if floor is None else floor)


def real_against_real(values: Tensor | PerJet) -> Tensor:
    """What a sample scores against itself: the mean over eight fixed random halvings, scaled by ``1 / sqrt 2``.

    The scale is because a distance between samples of n/2 is that much larger than between samples of n.

    Args:
        values: ``(n,)``, or values of jets, which are then halved by jets.

    Returns:
        ``()`` float64; NaN for fewer than two jets, or a half without a value.
    """
    sample = values if isinstance(values, PerJet) else PerJet.of(values.flatten())
    if sample.n_jets < 2:
        return sample.values.new_tensor(float("nan"))
    draws = torch.Generator().manual_seed(0)
    pool = _Sorted(sample.values)
    scores = []
    for _ in range(N_FLOOR_SPLITS):
        half = torch.ones(sample.n_jets, dtype=torch.double)
        half[torch.randperm(sample.n_jets, generator=draws)[: sample.n_jets // 2]] = 0.0
        weights = sample.weights(half.to(sample.values.device))
        scores.append(pool.distance(1.0 - weights, weights))
    return torch.stack(scores).mean() / 2**0.5
