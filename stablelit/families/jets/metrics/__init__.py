"""How far generated jets are from real ones, always beside what real jets score against real jets.

The definitions are those of the jetnet package, and on fixed jets the protocols of the published figures give its
numbers (the tests have them, from version 0.2.5). On purpose it is otherwise here that

- every draw is seeded (there, W1 and coverage draw from one global generator without a seed);
- the W1 of two samples is that of the samples themselves, its error from a bootstrap (there, the mean over resampled
  sets, which lies above it; `bootstrap_w1` gives that);
- fewer jets than a protocol draws are never drawn from as if there were more, and what is done instead is said, once
  and with the numbers (there, `fpd` resamples 20,000 to 50,000 of however few there are);
- an empty sample, NaN, infinity and negative pT are errors, whatever is masked out is not looked at, and an angle
  across the seam at pi is near;
- a function returns one thing (there, `w1m(..., return_std=False)` is a pair all the same).
"""

from stablelit.families.jets.metrics.active_units import ActiveUnits
from stablelit.families.jets.metrics.collection import GROUPS, JetMetrics, JetScores, checked_groups, score_jets
from stablelit.families.jets.metrics.coverage import JetCoverageMMD, coverage_and_mmd
from stablelit.families.jets.metrics.energy_flow import EFP_GRAPHS, EFP_PRIME_4_4, energy_flow_polynomials
from stablelit.families.jets.metrics.energy_movers import energy_movers_distance
from stablelit.families.jets.metrics.frechet import FrechetPhysicsDistance, frechet_physics_distance
from stablelit.families.jets.metrics.kernel import KernelPhysicsDistance, kernel_physics_distance
from stablelit.families.jets.metrics.kinematics import axis_distance, jet_mass, jet_momentum
from stablelit.families.jets.metrics.one_quantity import EFPW1, JetMassW1, JetPtW1, MultiplicityW1, ParticleW1
from stablelit.families.jets.metrics.residuals import JetResiduals
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric
from stablelit.families.jets.metrics.wasserstein import (
    PUBLISHED_JETS,
    Estimate,
    PerJet,
    bootstrap_w1,
    real_against_real,
    w1_estimate,
    wasserstein_1d,
)

__all__ = [
    "EFPW1",
    "EFP_GRAPHS",
    "EFP_PRIME_4_4",
    "GROUPS",
    "PUBLISHED_JETS",
    "ActiveUnits",
    "Estimate",
    "FrechetPhysicsDistance",
    "JetCoverageMMD",
    "JetMassW1",
    "JetMetrics",
    "JetPtW1",
    "JetResiduals",
    "JetScores",
    "Jets",
    "KernelPhysicsDistance",
    "MultiplicityW1",
    "ParticleW1",
    "PerJet",
    "TwoSampleMetric",
    "axis_distance",
    "bootstrap_w1",
    "checked_groups",
    "coverage_and_mmd",
    "energy_flow_polynomials",
    "energy_movers_distance",
    "frechet_physics_distance",
    "jet_mass",
    "jet_momentum",
    "kernel_physics_distance",
    "real_against_real",
    "score_jets",
    "w1_estimate",
    "wasserstein_1d",
]
