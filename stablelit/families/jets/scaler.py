"""The coordinates in which jets are modelled: (ln ptrel, etarel, phirel), scaled by what the training particles say.

A negative log-likelihood is a number of nats *in given coordinates*: changing a scale by 10 % moves it by
``n ln 1.1`` a feature. So the scaler is fitted once, on training jets only, and travels in the checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.jets.features import EDGE_FEATURES, HYPEREDGE_FEATURES, knn_hyperedges, pair_features
from stablelit.families.jets.metrics import jet_mass

MAX_JETS_FOR_PAIRS = 2000
MIN_STD = 1e-6
MIN_RELATIVE_MASS = 1e-3
N_MASS_BINS, N_SUM_BINS, N_PT_BINS = 64, 32, 32


@dataclass(frozen=True)
class JetScaler:
    """Means and standard deviations of training particles, pairs and hyperedges.

    Args:
        particle_mean: ``(3,)`` of (ln ptrel, etarel, phirel); the angles are centred at 0 by definition.
        particle_std: ``(3,)``; both angles share ``sqrt((Var eta + Var phi) / 2)``, so that scaling and rotation
            commute.
        pair_mean: ``(5,)`` of the features of pairs.
        pair_std: ``(5,)``.
        hyperedge_mean: ``(2,)`` of the features of hyperedges.
        hyperedge_std: ``(2,)``.
        jet_pt_gev: ``()`` median pT of the training jets, GeV.
        log_count_prob: ``(N,)`` log of the share of training jets with 1 ... N particles, half a jet added to each.
        ln_mass_quantiles: ``(65,)`` of ln(m / pT), of all particles of a jet together, at `quantile_levels`.
        ptrel_sum_quantiles: ``(33,)`` of the sum of ptrel.
        ln_pt_quantiles: ``(33,)`` of ln(jet pT / GeV).
        max_delta_r: ``()`` largest distance of a particle to the axis (rad).
    """

    particle_mean: Tensor
    particle_std: Tensor
    pair_mean: Tensor
    pair_std: Tensor
    hyperedge_mean: Tensor
    hyperedge_std: Tensor
    jet_pt_gev: Tensor
    log_count_prob: Tensor
    ln_mass_quantiles: Tensor
    ptrel_sum_quantiles: Tensor
    ln_pt_quantiles: Tensor
    max_delta_r: Tensor

    @staticmethod
    def shapes(n_particles: int) -> dict[str, tuple[int, ...]]:
        """The shape of every field, for jets of at most `n_particles`."""
        pairs, hyperedges = (len(EDGE_FEATURES),), (len(HYPEREDGE_FEATURES),)
        return {
            "particle_mean": (3,),
            "particle_std": (3,),
            "pair_mean": pairs,
            "pair_std": pairs,
            "hyperedge_mean": hyperedges,
            "hyperedge_std": hyperedges,
            "jet_pt_gev": (),
            "log_count_prob": (n_particles,),
            "ln_mass_quantiles": (N_MASS_BINS + 1,),
            "ptrel_sum_quantiles": (N_SUM_BINS + 1,),
            "ln_pt_quantiles": (N_PT_BINS + 1,),
            "max_delta_r": (),
        }

    @staticmethod
    def fit(particles: Tensor, mask: Tensor, jet: Tensor, n_neighbours: int = 3) -> JetScaler:
        """Takes the statistics of the given jets (give training jets only).

        Args:
            particles: ``(n, N, 3)`` etarel, phirel (rad), ptrel.
            mask: ``(n, N)`` bool.
            jet: ``(n, 4)``, pT (GeV) first.
            n_neighbours: of the hyperedges.

        Raises:
            DataError: fewer than two particles, or a feature that does not vary.
        """
        present = particles[mask].double()
        if len(present) < 2:
            raise DataError(
                f"JetScaler: {len(present)} particle(s) in {len(particles)} training jet(s). At least 2 are needed to "
                f"measure a standard deviation: give more training jets."
            )
        ln_ptrel = present[:, 2].log()
        angles = present[:, :2]
        angle_std = angles.var(dim=0, unbiased=False).mean().sqrt()
        for name, std in (("ln ptrel", ln_ptrel.std(unbiased=False)), ("etarel and phirel", angle_std)):
            if not float(std) > MIN_STD:
                raise DataError(
                    f"JetScaler: {name} of the {len(present)} training particles has standard deviation "
                    f"{float(std):.3g}. Allowed: above {MIN_STD:g}. A feature that does not vary cannot be modelled."
                )
        few = slice(0, MAX_JETS_FOR_PAIRS)
        pairs, pair_mask = pair_features(particles[few], mask[few], jet[few, 0])
        _, hyperedges, hyperedge_mask = knn_hyperedges(particles[few], mask[few], n_neighbours)
        pair_mean, pair_std = moments(pairs[pair_mask], len(EDGE_FEATURES))
        hyperedge_mean, hyperedge_std = moments(hyperedges[hyperedge_mask], len(HYPEREDGE_FEATURES))
        counts = torch.bincount(mask.sum(dim=1), minlength=mask.shape[1] + 1)[1:].double() + 0.5
        zero = torch.zeros((), dtype=torch.double)
        return JetScaler(
            particle_mean=torch.stack([ln_ptrel.mean(), zero, zero]).float(),
            particle_std=torch.stack([ln_ptrel.std(unbiased=False), angle_std, angle_std]).float(),
            pair_mean=pair_mean,
            pair_std=pair_std,
            hyperedge_mean=hyperedge_mean,
            hyperedge_std=hyperedge_std,
            jet_pt_gev=jet[:, 0].double().median().float(),
            log_count_prob=(counts / counts.sum()).log().float(),
            ln_mass_quantiles=_quantiles(ln_relative_mass(particles, mask), N_MASS_BINS),
            ptrel_sum_quantiles=_quantiles((particles[..., 2] * mask).sum(dim=1), N_SUM_BINS),
            ln_pt_quantiles=_quantiles(jet[:, 0].double().log(), N_PT_BINS),
            max_delta_r=angles.norm(dim=1).max().float(),
        )


def ln_relative_mass(particles: Tensor, mask: Tensor) -> Tensor:
    """``ln(m / pT)`` of the particles given, ``(B,)``; a jet of one particle has no mass, and counts as 1e-3."""
    return jet_mass(particles, mask).clamp_min(MIN_RELATIVE_MASS).log().float()


def quantile_levels(n_bins: int) -> Tensor:
    """Levels ``sin^2(pi i / 2 n)``, ``(n_bins + 1,)``: from 0 to 1, dense at both ends, where quantiles lie far apart.

    With 64 bins the outermost hold 6e-4 of the values each, so that a few outliers do not spread a tail over a bin.
    """
    return torch.sin(torch.linspace(0.0, 0.5 * math.pi, n_bins + 1, dtype=torch.double)).square().float()


def _quantiles(values: Tensor, n_bins: int) -> Tensor:
    # sorted once and read off: torch.quantile refuses more than 16 million values
    ordered = values.double().sort().values
    place = quantile_levels(n_bins).to(ordered.device).double() * (len(ordered) - 1)
    low = place.long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low).float()


def moments(values: Tensor, n_features: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features ``(n, F)`` of what there is, for scaling."""
    # jets of one or two particles have no pairs or hyperedges: then nothing is scaled, and nothing is there to scale
    if len(values) < 2:
        return torch.zeros(n_features), torch.ones(n_features)
    values = values.double()
    return values.mean(0).float(), values.std(0, unbiased=False).clamp_min(1e-3).float()
