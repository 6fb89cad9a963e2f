"""Wasserstein-1 distances of single quantities of jets: mass, pT, multiplicity, features of particles, polynomials."""

from __future__ import annotations

from typing import Any

import torch

from stablelit.families.jets.metrics.energy_flow import EFP_PRIME_4_4, energy_flow_polynomials
from stablelit.families.jets.metrics.kinematics import axis_distance, jet_momentum
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric
from stablelit.families.jets.metrics.wasserstein import Estimate, PerJet, w1_estimate

PARTICLE_QUANTITIES = ("etarel", "phirel", "ptrel", "delta_r")


class _QuantityW1(TwoSampleMetric):
    """Base: distances of what `quantities` gives.

    Args:
        n_bootstrap: resamplings of the jets for the standard deviation; 0 leaves it out.
        seed: of the resamplings.
    """

    def __init__(self, n_bootstrap: int = 10, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_bootstrap, self.seed = n_bootstrap, seed

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """The values of every quantity, by the names of the distances."""
        raise NotImplementedError

    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """The distances."""
        values = [self.quantities(jets) for jets in (real, generated)]
        return {name: w1_estimate(values[0][name], values[1][name], self.n_bootstrap, self.seed) for name in values[0]}


class JetMassW1(_QuantityW1):
    """``mass_w1``: of jet masses, in units of the jet's pT (m / pT)."""

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """Relative masses."""
        return {"mass_w1": PerJet.of(jet_momentum(*jets).mass)}


class JetPtW1(_QuantityW1):
    """``pt_w1``: of the pT of all particles of a jet, in units of the jet's pT: the share that its particles carry."""

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """Relative transverse momenta."""
        return {"pt_w1": PerJet.of(jet_momentum(*jets).pt)}


class MultiplicityW1(_QuantityW1):
    """``multiplicity_w1``: of the number of particles of a jet."""

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """Numbers of particles."""
        return {"multiplicity_w1": PerJet.of(jets.mask.sum(dim=1))}


class ParticleW1(_QuantityW1):
    """``etarel_w1``, ``phirel_w1`` (rad), ``ptrel_w1`` and ``delta_r_w1``: of all particles of all jets.

    delta_r is a particle's distance to the axis of its coordinates. The mean of the first three is the W1P of the
    JetNet tables.
    """

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """Features of the particles that are there."""
        features = [*jets.particles.unbind(-1), axis_distance(jets.particles)]
        return {
            f"{name}_w1": PerJet.of(values, jets.mask)
            for name, values in zip(PARTICLE_QUANTITIES, features, strict=True)
        }


class EFPW1(_QuantityW1):
    """``efp_w1``: mean over the five energy flow polynomials of four vertices and four edges, all connected.

    The five themselves are ``efp_<i>_w1``, i the place in `EFP_GRAPHS`.
    """

    @staticmethod
    def quantities(jets: Jets) -> dict[str, PerJet]:
        """The five polynomials."""
        return efp_quantities(energy_flow_polynomials(*jets))

    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """The mean and the five."""
        single = super().estimates(real, generated)
        return {"efp_w1": mean_estimate(list(single.values())), **single}


def efp_quantities(polynomials: torch.Tensor) -> dict[str, PerJet]:
    """Those of the 36 that W1-EFP is defined on."""
    return {f"efp_{place}_w1": PerJet.of(polynomials[:, place]) for place in EFP_PRIME_4_4}


def mean_estimate(parts: list[Estimate]) -> Estimate:
    """The mean of quantities of the same jets; its error is the mean of theirs, an upper bound."""
    return Estimate(*(sum(numbers) / len(parts) for numbers in zip(*parts, strict=True)))
