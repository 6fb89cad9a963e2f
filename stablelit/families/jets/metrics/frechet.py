"""The Frechet physics distance: how far two sets of jets are apart in their means and covariances of 36 polynomials.

Both sets are taken for Gaussians ``N(mu, C)`` in the space of their energy flow polynomials (any other features will
do), each feature divided by its largest absolute value among real jets::

    d^2 = |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))

From N jets of each kind it comes out too large, by about b / N; so it is measured at several N, and ``a + b / N`` with
a, b >= 0 is fitted: a is the distance.

Two ways of taking N jets:

- "published" is the protocol of the published figures: ten N from 20,000 to 50,000, regular in 1 / N, twenty samples
  of each *with replacement*. What it extrapolates to is the distance of the two given sets, with the bias b / n of
  their own size n left in: figures can be compared at equal n alone, and 50,000 is what papers use. Below that it
  draws more jets than there are.
- "subsample" takes N in [n/4, n] *without replacement*. Its limit is the distance of the distributions, without
  that bias, so that it serves for few jets; its values do not belong beside published ones.

Source: Kansal et al. 2023 (arXiv:2211.10295), section III; the fit is Chong and Forsyth's, 2020 (arXiv:1911.07023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.jets.metrics.energy_flow import energy_flow_polynomials
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric
from stablelit.families.jets.metrics.wasserstein import PUBLISHED_JETS, Estimate

Protocol = Literal["auto", "published", "subsample"]
Measure = Callable[[Tensor, Tensor, int], tuple[float, float]]
LEAST_JETS = 200
"""Below this, a quarter of the jets does not determine 36 variances, let alone a covariance."""

_LEAST_BATCH = 20_000
_N_POINTS = 10
_N_DRAWS = 20
_N_BLOCKS = 40
_N_JACKKNIFE = 10


def chosen_protocol(owner: str, protocol: Protocol, n_real: int, n_generated: int) -> Protocol:
    """What "auto" stands for: "published" where there are as many jets as published figures have."""
    if protocol not in get_args(Protocol):
        allowed = get_args(Protocol)
        raise bad_argument(owner, "protocol", protocol, ", ".join(allowed), did_you_mean(str(protocol), allowed))
    if protocol != "auto":
        return protocol
    return "published" if min(n_real, n_generated) >= PUBLISHED_JETS else "subsample"


def scaled_features(owner: str, real: Tensor, generated: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both sets in float64, each feature divided by its largest absolute value among real jets (where not zero).

    Raises:
        DataError: different features, fewer than `least` jets, NaN or infinity.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DataError(
            f"{owner}: features of shapes {tuple(real.shape)} and {tuple(generated.shape)}. Allowed: (jets, features) "
            f"twice, with the same features."
        )
    for name, features in (("real", real), ("generated", generated)):
        if len(features) < least:
            raise DataError(f"{owner}: {len(features)} {name} jets. Allowed: at least {least}. Evaluate on more jets.")
        if n_bad := int((~features.isfinite()).any(dim=1).sum()):
            raise DataError(f"{owner}: {n_bad} of {len(features)} {name} jets have features that are NaN or infinite.")
    largest = real.double().abs().amax(dim=0)
    largest = torch.where(largest == 0, 1.0, largest)
    return real.double() / largest, generated.double() / largest


def measured(
    owner: str,
    real: Tensor,
    generated: Tensor,
    protocol: Protocol,
    measures: tuple[Measure, Measure],
    least: int,
    seed: int,
    floor: bool,
) -> Estimate:
    """A distance by the chosen protocol, and on request the floor: one half of the real jets against the other.

    Args:
        owner: for messages.
        real: ``(n, F)``.
        generated: ``(m, F)``.
        protocol: see the module docstring.
        measures: the distance and its error by "published" and by "subsample".
        least: jets of a kind that it needs.
        seed: of numpy's generator.
        floor: whether it is measured, where there are jets enough.
    """
    published = chosen_protocol(owner, protocol, len(real), len(generated)) == "published"
    real, generated = scaled_features(owner, real, generated, least)
    measure = measures[0] if published else measures[1]
    value, std = measure(real, generated, seed)
    if not floor or len(real) < 2 * least:
        return Estimate(value, std)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(real))).to(real.device)
    half = len(real) // 2
    return Estimate(value, std, measure(real[order[:half]], real[order[half:]], seed)[0])


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> Tensor:
    """``|mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))``, batched.

    ``tr (C_1 C_2)^(1/2)`` is the sum of the singular values of ``R_1^T R_2`` with ``C = R R^T``: such roots exist for
    singular covariances too, where a matrix square root of the product does not converge.

    Args:
        mean_1: ``(..., F)`` float64.
        covariance_1: ``(..., F, F)``.
        mean_2: ``(..., F)``.
        covariance_2: ``(..., F, F)``.

    Returns:
        ``(...)``; not below zero but for rounding.
    """
    cross = torch.linalg.svdvals(_root(covariance_1).mT @ _root(covariance_2)).sum(-1)
    traces = (covariance_1 + covariance_2).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (mean_1 - mean_2).square().sum(-1) + traces - 2.0 * cross


def _root(covariance: Tensor) -> Tensor:
    root, failed = torch.linalg.cholesky_ex(covariance)
    if bool((failed > 0).any()):
        # singular: twenty times the work, and always there
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0.0).sqrt()[..., None, :]
    return root


def fit_limit(counts: Tensor, values: Tensor, bounded: bool = True) -> tuple[float, float]:
    """Least squares of ``a + b / N`` with a, b >= 0: a and its standard error.

    The error is that of a line without bounds about these residuals, as the published protocol has it.

    Args:
        counts: ``(P,)`` the N, at least three.
        values: ``(P,)`` float64.
        bounded: whether a and b are kept from below 0.
    """
    x = counts.double().reciprocal()
    x_mean, y_mean = x.mean(), values.mean()
    x_scatter = (x - x_mean).square().sum()
    b = ((x - x_mean) * (values - y_mean)).sum() / x_scatter
    a = y_mean - b * x_mean
    if bounded and b < 0:
        a, b = y_mean.clamp_min(0.0), torch.zeros_like(b)
    elif bounded and a < 0:
        a, b = torch.zeros_like(a), ((x * values).sum() / x.square().sum()).clamp_min(0.0)
    variance = (values - a - b * x).square().sum() / (len(x) - 2)
    return float(a), float((variance * (1.0 / len(x) + x_mean.square() / x_scatter)).sqrt())


def frechet_physics_distance(
    real: Tensor, generated: Tensor, protocol: Protocol = "auto", seed: int = 42, floor: bool = True
) -> Estimate:
    """The distance in the limit of many jets; see the module docstring.

    Args:
        real: ``(n, F)`` features of real jets; `energy_flow_polynomials`.
        generated: ``(m, F)``.
        protocol: "published", "subsample", or "auto", which is "published" from 50,000 jets of each kind on.
        seed: of numpy's generator.
        floor: whether to measure one half of the real jets against the other too.

    Returns:
        The limit a; its error: that of the fit ("published"), or of a jackknife over tenths of the jets
        ("subsample"); and the floor.

    Raises:
        ConfigurationError: an unknown protocol.
        DataError: different features, fewer than 200 jets, NaN or infinity.
    """
    measures = _published, _subsampled
    return measured("frechet_physics_distance", real, generated, protocol, measures, LEAST_JETS, seed, floor)


def _published(
    real: Tensor, generated: Tensor, seed: int, least: int = _LEAST_BATCH, most: int = PUBLISHED_JETS
) -> tuple[float, float]:
    draws = np.random.default_rng(seed)
    counts = (1.0 / np.linspace(1.0 / least, 1.0 / most, _N_POINTS)).astype(np.int64)
    values = []
    for n in counts.tolist():
        moments = [
            _mean_and_covariance(features[torch.from_numpy(draws.integers(0, len(features), n)).to(features.device)])
            for _ in range(_N_DRAWS)
            for features in (real, generated)
        ]
        stacked = [torch.stack(part) for which in (0, 1) for part in zip(*moments[which::2], strict=True)]
        values.append(frechet_distance(*stacked).mean())
    return fit_limit(torch.from_numpy(counts).to(real.device), torch.stack(values))


def _mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    mean = features.mean(dim=0)
    centred = features - mean
    return mean, centred.mT @ centred / (len(features) - 1)


class _Blocks:
    """A set of jets in random blocks of equal size, by their moments: any union of blocks costs no jet any more."""

    def __init__(self, features: Tensor, centre: Tensor, draws: np.random.Generator) -> None:
        self.size = len(features) // _N_BLOCKS
        order = torch.from_numpy(draws.permutation(len(features))[: self.size * _N_BLOCKS]).to(features.device)
        # about a common centre, so that second moments do not drown in the square of the mean
        blocks = (features - centre)[order].unflatten(0, (_N_BLOCKS, self.size))
        self.first = blocks.sum(dim=1)
        self.second = blocks.mT @ blocks

    def moments(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``(R, F)`` and covariances ``(R, F, F)`` of R unions; `chosen` ``(R, blocks)`` float64 is 0 or 1."""
        n = (chosen.sum(dim=1) * self.size)[:, None, None]
        mean = (chosen @ self.first) / n[..., 0]
        second = torch.tensordot(chosen, self.second, dims=1)
        return mean, (second - n * mean[..., :, None] * mean[..., None, :]) / (n - 1.0)


def _subsampled(real: Tensor, generated: Tensor, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed)
    centre = real.mean(dim=0)
    blocks = [_Blocks(features, centre, draws) for features in (real, generated)]
    value = _limit_of_blocks(blocks, np.arange(_N_BLOCKS), draws)
    tenths = np.arange(_N_BLOCKS) % _N_JACKKNIFE
    # where the limit is held at 0, nothing of its error would be seen
    left_out = [_limit_of_blocks(blocks, np.flatnonzero(tenths != k), draws, False) for k in range(_N_JACKKNIFE)]
    return value, float(np.std(left_out) * (_N_JACKKNIFE - 1) ** 0.5)


def _limit_of_blocks(
    blocks: list[_Blocks], usable: np.ndarray, draws: np.random.Generator, bounded: bool = True
) -> float:
    n_usable = len(usable)
    n_chosen = np.unique(np.round(1.0 / np.linspace(4.0 / n_usable, 1.0 / n_usable, _N_POINTS)).astype(np.int64))
    rank = draws.random((2, len(n_chosen), _N_DRAWS, n_usable)).argsort(axis=-1)
    chosen = np.zeros((2, len(n_chosen), _N_DRAWS, _N_BLOCKS))
    chosen[..., usable] = rank < n_chosen[:, None, None]
    device = blocks[0].first.device
    taken = torch.from_numpy(chosen).flatten(1, 2).to(device)
    moments = [part for side, own in zip(blocks, taken, strict=True) for part in side.moments(own)]
    values = frechet_distance(*moments).unflatten(0, (len(n_chosen), _N_DRAWS)).mean(dim=1)
    # unequal numbers of jets: the bias is b_1 / N + b_2 / M, and N / M is the same at every point
    return fit_limit(torch.from_numpy(n_chosen).to(device) * blocks[0].size, values, bounded)[0]


class FrechetPhysicsDistance(TwoSampleMetric):
    """``fpd``: the distance of jets' energy flow polynomials; see `frechet_physics_distance` for the arguments."""

    def __init__(self, protocol: Protocol = "auto", seed: int = 42, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        chosen_protocol(type(self).__name__, protocol, 0, 0)
        self.protocol, self.seed = protocol, seed

    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """The distance."""
        features = [energy_flow_polynomials(*jets) for jets in (real, generated)]
        return {"fpd": frechet_physics_distance(*features, self.protocol, self.seed)}
